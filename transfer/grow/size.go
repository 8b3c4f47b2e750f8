package grow

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size says how large the last partition shall be. The zero value is as large as possible.
type Size struct {
	Bytes   int64   // the size of the partition
	Percent float64 // or the share of the room that the partition could have: from its start to the end of the disk
}

// ParseSize reads "20G" (binary units K, M, G, T, with or without B or iB; without one, bytes), "50%" and "0" (all).
func ParseSize(s string) (Size, error) {
	bad := fmt.Errorf("%q is no size: want for example 20G, 50%%, or 0 for all there is", s)
	if p, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil || !(v > 0 && v <= 100) {
			return Size{}, bad
		}
		return Size{Percent: v}, nil
	}
	number := strings.TrimRight(s, "KMGTiBkmgtb")
	factor, ok := map[string]uint64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[strings.ToUpper(strings.TrimSuffix(strings.TrimRight(s[len(number):], "Bb"), "i"))]
	v, err := strconv.ParseUint(number, 10, 63)
	if err != nil || !ok || v > math.MaxInt64/factor {
		return Size{}, bad
	}
	return Size{Bytes: int64(v * factor)}, nil
}
