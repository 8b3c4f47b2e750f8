package events

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ResizeMax is the value of LoadRequest.Resize that gives the last partition
// all the room there is.
const ResizeMax = "max"

// Resize is a parsed LoadRequest.Resize. The zero value is as large as possible.
type Resize struct {
	Bytes   int64 // of the last partition
	Percent int   // or the share of its room, from its start to the end of the disk: 1 to 100
}

// ParseResize reads "max", a size in bytes or with a binary unit ("20G"), or a
// share ("80%").
func ParseResize(s string) (Resize, error) {
	bad := fmt.Errorf("%.40q is no size: want max, a size such as 20G, or a share of the room such as 80%%", s)
	if s == ResizeMax {
		return Resize{}, nil
	}
	if share, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseUint(share, 10, 8)
		if err != nil || n < 1 || n > 100 {
			return Resize{}, bad
		}
		return Resize{Percent: int(n)}, nil
	}
	number, unit := s, int64(1)
	for i, u := range []string{"K", "M", "G", "T"} {
		if n, ok := strings.CutSuffix(s, u); ok {
			number, unit = n, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || int64(n) > math.MaxInt64/unit {
		return Resize{}, bad
	}
	return Resize{Bytes: int64(n) * unit}, nil
}

// Grown says what became of the last partition of a loaded disk: load.done.
type Grown struct {
	Partition       int      `json:"partition"`            // its number
	Before          int64    `json:"before"`               // its size in the image, bytes
	After           int64    `json:"after"`                // and now
	Filesystem      string   `json:"filesystem,omitempty"` // what is in it; empty: not known
	FilesystemGrown bool     `json:"filesystem_grown"`     // with the partition
	Notes           []string `json:"notes,omitempty"`      // for people
}

// Personalise is what is written into the root filesystem of a loaded disk. It
// is part of the job's facts: nothing in it is secret.
type Personalise struct {
	Hostname       string   `json:"hostname,omitempty"`         // "{node}" stands for the node's name
	ResetMachineID bool     `json:"reset_machine_id,omitempty"` // the system makes a new one when it starts
	RemoveHostKeys bool     `json:"remove_host_keys,omitempty"` // those of the SSH server
	AuthorizedKeys []string `json:"authorized_keys,omitempty"`  // added to those of User
	User           string   `json:"user,omitempty"`             // empty: root
	Seed           *Seed    `json:"seed,omitempty"`             // for cloud-init
}

// Seed is a NoCloud seed. "{node}" in MetaData stands for the node's name.
type Seed struct {
	MetaData      string `json:"meta_data,omitempty"` // empty: an instance id and the host name
	UserData      string `json:"user_data,omitempty"`
	NetworkConfig string `json:"network_config,omitempty"`
}

// Bounds of Personalise.
const (
	MaxAuthorizedKeys = 64
	MaxAuthorizedKey  = 8 << 10  // bytes of a key
	MaxSeed           = 64 << 10 // bytes of all texts of a seed
)

// NodePlace stands for the name of the node in a host name and in meta data.
const NodePlace = "{node}"

// Empty says that nothing is to be written.
func (p *Personalise) Empty() bool {
	return p == nil || p.Hostname == "" && !p.ResetMachineID && !p.RemoveHostKeys && len(p.AuthorizedKeys) == 0 && p.Seed == nil
}

// Check says what is wrong with a wish to personalise.
func (p *Personalise) Check() error {
	if p == nil {
		return nil
	}
	if p.Empty() {
		return fmt.Errorf("personalise: nothing is asked for")
	}
	if p.Hostname != "" {
		if err := checkHostname(strings.ReplaceAll(p.Hostname, NodePlace, "n")); err != nil {
			return fmt.Errorf("personalise: host name %.80q: %w", p.Hostname, err)
		}
	}
	if p.User != "" && !plainName(p.User) {
		return fmt.Errorf("personalise: user %.40q: want a name such as ubuntu", p.User)
	}
	if p.User != "" && len(p.AuthorizedKeys) == 0 {
		return fmt.Errorf("personalise: user %s gets no keys", p.User)
	}
	if len(p.AuthorizedKeys) > MaxAuthorizedKeys {
		return fmt.Errorf("personalise: %d authorised keys, at most %d are possible", len(p.AuthorizedKeys), MaxAuthorizedKeys)
	}
	for i, key := range p.AuthorizedKeys {
		if len(key) > MaxAuthorizedKey || len(strings.Fields(key)) < 2 || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == utf8.RuneError }) {
			return fmt.Errorf("personalise: authorised key %d is no line of an authorized_keys file", i+1)
		}
	}
	if s := p.Seed; s != nil {
		if n := len(s.MetaData) + len(s.UserData) + len(s.NetworkConfig); n > MaxSeed {
			return fmt.Errorf("personalise: the seed has %d bytes, at most %d are possible", n, MaxSeed)
		}
		if strings.ContainsRune(s.MetaData+s.UserData+s.NetworkConfig, 0) || !utf8.ValidString(s.MetaData+s.UserData+s.NetworkConfig) {
			return fmt.Errorf("personalise: the seed is no text")
		}
	}
	return nil
}

// checkHostname holds for names of hosts, with or without a domain (RFC 1123).
func checkHostname(name string) error {
	if len(name) > 253 {
		return fmt.Errorf("it is longer than 253 bytes")
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return fmt.Errorf("its parts have 1 to 63 letters, digits and inner hyphens")
		}
	}
	return nil
}

// HostnameOf is the host name for a node. Bytes that node names may have and
// host names may not become hyphens.
func (p *Personalise) HostnameOf(node string) (string, error) {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, node)
	name := strings.ReplaceAll(p.Hostname, NodePlace, strings.Trim(plain, "-."))
	if err := checkHostname(name); err != nil {
		return "", fmt.Errorf("host name %.80q of node %s: %w", name, node, err)
	}
	return name, nil
}

// plainName holds for names of users.
func plainName(s string) bool {
	return len(s) <= 32 && s[0] != '-' && s[0] != '.' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}
