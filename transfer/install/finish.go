package install

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"loadnode/transfer/ndz"
)

// Finish ends an installation: it checks that all chunks are there ([ErrIncomplete]), extends an output file to the
// size of the described unit, fills what lies behind it if asked, waits until everything is on the medium, and reads
// back if asked ([*ReadBackError]). No Install may run meanwhile.
func (in *Installer) Finish(ctx context.Context) (Result, error) {
	records, err := in.complete()
	if err != nil {
		return Result{}, err
	}
	res := Result{Chunks: len(records)}
	for _, r := range records {
		res.Undescribed = res.Undescribed || !r.described
		res.BytesDescribed = max(res.BytesDescribed, int64(r.last)*ndz.SectorSize-int64(r.tail))
	}
	end := in.cfg.Offset + res.BytesDescribed
	if !in.cfg.NoExtend {
		if err := in.cfg.Target.Extend(end); err != nil {
			return Result{}, &WriteError{Off: in.cfg.Target.Size(), Len: end - in.cfg.Target.Size(), Err: err}
		}
	}
	rest := in.rest(end)
	if err := in.fill(ctx, end, rest); err != nil {
		return Result{}, err
	}
	if err := in.cfg.Target.Sync(); err != nil {
		return Result{}, &WriteError{Off: in.cfg.Offset, Len: res.BytesDescribed, Err: fmt.Errorf("sync: %w", err)}
	}
	res.Assurance = AssuranceWritten
	if in.cfg.ReadBack {
		if err := in.readBack(ctx, records, end, rest); err != nil {
			return Result{}, err
		}
		res.Assurance = AssuranceReadBack
	}
	res.BytesWritten, res.BytesFilled = in.written.Load(), in.filled.Load()
	if in.cfg.Manifest != nil {
		res.DataDigest = in.dataDigest()
	}
	return res, nil
}

// complete returns the records in disk order, or says what is missing.
func (in *Installer) complete() ([]located, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	want := in.cfg.Chunks
	if in.cfg.Manifest != nil {
		want = len(in.cfg.Manifest.Chunks)
	}
	if want == 0 {
		for i := range in.chunks {
			want = max(want, i+1)
		}
	}
	missing, first := 0, -1
	for i := range want {
		if r := in.chunks[i]; r == nil || !r.done {
			missing++
			if first < 0 {
				first = i
			}
		}
	}
	if want == 0 || missing > 0 {
		return nil, fmt.Errorf("%w: %d of %d chunks are missing, the first is %d", ErrIncomplete, missing, want, first)
	}
	var list []located
	for i, r := range in.chunks {
		list = append(list, located{record: r, index: i})
	}
	slices.SortFunc(list, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.index, b.index))
	})
	return list, nil
}

// located is a record with its chunk number.
type located struct {
	*record
	index int
}

// rest is how many bytes behind the unit are to be filled.
func (in *Installer) rest(end int64) int64 {
	if !in.cfg.FillRest {
		return 0
	}
	stop := in.cfg.Target.Size()
	if in.cfg.Limit > 0 {
		stop = min(stop, in.cfg.Offset+in.cfg.Limit)
	}
	return max(0, stop-end)
}

// dataDigest is computed from what was inflated here; see [ndz.Manifest.DataDigest].
func (in *Installer) dataDigest() ndz.Digest {
	m := ndz.Manifest{}
	for _, i := range slices.Sorted(maps.Keys(in.chunks)) {
		r := in.chunks[i]
		m.Chunks = append(m.Chunks, ndz.ChunkInfo{DataSHA256: r.data, First: r.first, Last: r.last})
	}
	return m.DataDigest()
}

// isFill says whether p holds what fill leaves behind: it begins with the
// pattern, and repeats itself every four bytes. Two long comparisons are much
// faster than one byte after the other.
func (in *Installer) isFill(p []byte) bool {
	want := [4]byte{}
	if in.cfg.Fill == Pattern {
		binary.LittleEndian.PutUint32(want[:], in.cfg.Pattern)
	}
	head := min(len(p), len(want))
	return bytes.Equal(p[:head], want[:head]) && bytes.Equal(p[head:], p[:len(p)-head])
}
