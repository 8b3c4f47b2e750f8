package pxelinux

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type bench struct {
	t    *testing.T
	tree *Tree
	cfg  Config
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, cfg: Config{Dir: t.TempDir(), State: filepath.Join(t.TempDir(), "links.json")}}
	for _, name := range []string{"orbit-1.0.0", "omf-5.4", "default"} {
		b.file(name)
	}
	b.open()
	t.Cleanup(func() { b.tree.Close() })
	return b
}

// open makes another tree of the same state, as a process does that was
// started again.
func (b *bench) open() {
	if b.tree != nil {
		require.NoError(b.t, b.tree.Close())
	}
	var err error
	b.tree, err = Open(b.cfg)
	require.NoError(b.t, err)
}

func (b *bench) path(name string) string { return filepath.Join(b.cfg.Dir, name) }

func (b *bench) file(name string) {
	require.NoError(b.t, os.WriteFile(b.path(name), []byte("LABEL x\n"), 0o644))
}

// links lists the links of the directory.
func (b *bench) links() map[string]string {
	all, err := os.ReadDir(b.cfg.Dir)
	require.NoError(b.t, err)
	out := map[string]string{}
	for _, e := range all {
		if to, err := os.Readlink(b.path(e.Name())); err == nil {
			out[e.Name()] = to
		}
	}
	return out
}

func flag(x, y int, job string) Link {
	return Link{
		Testbed: "t", Node: fmt.Sprintf("n%d-%d", x, y), IP: netip.AddrFrom4([4]byte{10, 18, byte(x), byte(y)}), MAC: fmt.Sprintf("00:11:22:33:0%d:0%d", x, y),
		Image: "orbit-1.0.0", Job: job, Until: start.Add(time.Hour),
	}
}

func TestKeep(t *testing.T) {
	b := newBench(t)
	out, err := b.tree.Keep(start, []Link{flag(1, 1, "j"), flag(1, 2, "j")})
	require.NoError(t, err)
	require.NoError(t, out[0].Err)
	require.Equal(t, []string{"0A120101", "01-00-11-22-33-01-01"}, out[0].Names)
	require.Equal(t, map[string]string{
		"0A120101": "./orbit-1.0.0", "01-00-11-22-33-01-01": "./orbit-1.0.0", "0A120102": "./orbit-1.0.0", "01-00-11-22-33-01-02": "./orbit-1.0.0",
	}, b.links())
	b.open() // whoever comes next knows them
	other := flag(1, 2, "j")
	other.Image = "omf-5.4"
	_, err = b.tree.Keep(start, []Link{other})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"0A120102": "./omf-5.4", "01-00-11-22-33-01-02": "./omf-5.4"}, b.links())
	_, err = b.tree.Keep(start, nil)
	require.NoError(t, err)
	require.Empty(t, b.links())
	text, err := os.ReadFile(b.cfg.State)
	require.NoError(t, err)
	require.JSONEq(t, `{"version":1,"links":null}`, string(text))
}

// Links by hand end with their time, and not with a job.
func TestByHand(t *testing.T) {
	b := newBench(t)
	_, err := b.tree.Set([]Link{flag(1, 1, "")})
	require.NoError(t, err)
	next, ok := b.tree.Next()
	require.True(t, ok)
	require.Equal(t, start.Add(time.Hour), next)
	_, err = b.tree.Keep(start, []Link{flag(1, 2, "j")})
	require.NoError(t, err)
	require.Len(t, b.links(), 4)
	o, ok := b.tree.Status("t", "n1-1")
	require.True(t, ok)
	require.Equal(t, "orbit-1.0.0", o.Image)
	_, err = b.tree.Keep(start.Add(time.Hour), nil)
	require.NoError(t, err)
	require.Empty(t, b.links())
	_, ok = b.tree.Status("t", "n1-1")
	require.False(t, ok)

	_, err = b.tree.Set([]Link{flag(1, 1, ""), flag(1, 2, "")})
	require.NoError(t, err)
	require.NoError(t, b.tree.Clear([]Link{flag(1, 1, "")}))
	require.Equal(t, map[string]string{"0A120102": "./orbit-1.0.0", "01-00-11-22-33-01-02": "./orbit-1.0.0"}, b.links())
	// A job takes over what was set by hand, and it ends with the job.
	_, err = b.tree.Keep(start, []Link{flag(1, 2, "j")})
	require.NoError(t, err)
	_, err = b.tree.Keep(start, nil)
	require.NoError(t, err)
	require.Empty(t, b.links())
}

// What is not ours is left, and said to be in the way.
func TestForeign(t *testing.T) {
	b := newBench(t)
	b.file("0A120101")
	require.NoError(t, os.Symlink("../special", b.path("0A120102")))
	require.NoError(t, os.Symlink("./omf-5.4", b.path("0A120103")))
	require.NoError(t, os.Symlink("./gone", b.path("0A120104")))
	out, err := b.tree.Keep(start, []Link{flag(1, 1, "j"), flag(1, 2, "j"), flag(1, 3, "j"), flag(1, 4, "j")})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, ErrForeign)
	require.ErrorContains(t, out[0].Err, "is no link but a file; it is left")
	require.ErrorContains(t, out[1].Err, "leads to ../special; it is left")
	require.NoError(t, out[2].Err)
	require.Contains(t, out[2].Note, "replaced the link 0A120103 to ./omf-5.4")
	require.NoError(t, out[3].Err, "a link to a missing file is replaced as well")
	// Somebody else changes one of ours: it is theirs now.
	require.NoError(t, os.Remove(b.path("0A120103")))
	require.NoError(t, os.Symlink("./default", b.path("0A120103")))
	_, err = b.tree.Keep(start, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"0A120102": "../special", "0A120103": "./default"}, b.links())
	require.FileExists(t, b.path("0A120101"))
}

func TestRefusedLinks(t *testing.T) {
	b := newBench(t)
	nowhere := Link{Testbed: "t", Node: "n", Image: "default", IP: netip.MustParseAddr("fd00::1")}
	out, _ := b.tree.Keep(start, []Link{nowhere})
	require.ErrorIs(t, out[0].Err, ErrAddress)
	for _, image := range []string{"", "../etc", ".hidden", "a/b", "gone", "0A120101", "01-00-11-22-33-01-01", "a\nb"} {
		l := flag(1, 1, "j")
		l.Image = image
		out, err := b.tree.Keep(start, []Link{l})
		require.NoError(t, err)
		require.ErrorIs(t, out[0].Err, ErrImage, image)
	}
	twice := flag(1, 1, "j")
	twice.Testbed, twice.Node = "u", "x"
	out, _ = b.tree.Keep(start, []Link{flag(1, 1, "j"), twice})
	require.NoError(t, out[0].Err)
	require.ErrorContains(t, out[1].Err, "is that of n1-1 as well")
}

// A process that was killed between list and link, or while it made one,
// leaves nothing that the next one does not find.
func TestKilled(t *testing.T) {
	b := newBench(t)
	_, err := b.tree.Set([]Link{flag(1, 1, "")})
	require.NoError(t, err)
	require.NoError(t, writeState(b.cfg.State, append(b.tree.links, entry{"0A120101", "./omf-5.4", "t", "n1-1", "", start.Add(time.Hour)})))
	require.NoError(t, os.Symlink("./omf-5.4", b.path(".loadnode-ABCDEFGHIJKLMNOPQRSTUVWXYZ")))
	b.open()
	_, err = b.tree.Keep(start.Add(time.Hour), nil)
	require.NoError(t, err)
	require.Empty(t, b.links())
}

func TestStateFile(t *testing.T) {
	b := newBench(t)
	for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"links":[{"name":"default","target":"./x"}]}`, `{"version":1,"links":[{"name":"0A120101","target":"/etc/passwd"}]}`} {
		require.NoError(t, os.WriteFile(b.cfg.State, []byte(text), 0o600))
		_, err := Open(b.cfg)
		require.ErrorIs(t, err, ErrState, text)
		require.ErrorContains(t, err, b.cfg.State)
	}
	_, err := Open(Config{Dir: b.cfg.Dir + "/none", State: b.cfg.State + ".none"})
	require.ErrorContains(t, err, "directory of boot links")
}

// Whatever is asked for and however often the process is started anew: when
// nobody wants a link any more, there is none of ours.
func TestNothingLeft(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := newBench(t)
		require.NoError(t, os.Symlink("../special", b.path("0A120301")))
		now := start
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			var links []Link
			for x := 1; x <= 3; x++ {
				if rapid.Bool().Draw(r, "wanted") {
					l := flag(x, 1, rapid.SampledFrom([]string{"j1", "j2"}).Draw(r, "job"))
					l.Image = rapid.SampledFrom([]string{"omf-5.4", "orbit-1.0.0", "gone"}).Draw(r, "image")
					l.Until = now.Add(time.Minute)
					links = append(links, l)
				}
			}
			switch rapid.IntRange(0, 3).Draw(r, "what") {
			case 0:
				for i := range links {
					links[i].Job = ""
				}
				_, _ = b.tree.Set(links)
			case 1:
				_ = b.tree.Clear(links)
			case 2:
				b.open()
			default:
				_, _ = b.tree.Keep(now, links)
				for _, l := range links {
					_, set := b.links()[Hex(l.IP)]
					require.Equal(t, l.Image != "gone" || l.Node == "n3-1", set, l.Node)
				}
			}
			now = now.Add(20 * time.Second)
		}
		_, err := b.tree.Keep(now.Add(time.Hour), nil)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"0A120301": "../special"}, b.links())
		require.Empty(t, b.tree.links)
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"links":[{"name":"0A120101","target":"./orbit-1.0.0","testbed":"t","node":"n1-1","until":"2026-01-02T03:04:05Z"}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		links, err := parseState(text)
		if err != nil {
			require.ErrorIs(t, err, ErrState)
			return
		}
		for _, e := range links {
			require.Regexp(t, linkName, e.Name)
			require.NoError(t, CheckImage(e.Target[2:]))
		}
	})
}
