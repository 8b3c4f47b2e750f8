package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/agent"
	"loadnode/agent/internal/lab"
	"loadnode/agent/legacy"
	"loadnode/agent/legacy/listener"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/mcast"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is a machine with a file as its disk /dev/sda.
type box struct {
	agent.Machine
	path    string
	imaging bool
	left    chan events.Verb
}

func (b *box) OpenDisk(_ context.Context, selector string, _ int64, _ int) (disk.Target, events.Disk, error) {
	if selector != "/dev/sda" {
		return nil, events.Disk{}, errors.New("no disk " + selector)
	}
	t, err := disk.Open(b.path, disk.Options{Create: true})
	return t, events.Disk{}, err
}

func (b *box) Join(s events.Session) (mcast.Conn, error) {
	return mcast.Open(mcast.Options{Group: netip.MustParseAddr(s.Group), Port: s.Port, Local: netip.MustParseAddr("127.66.9.1")})
}
func (b *box) Imaging() bool                                { return b.imaging }
func (b *box) Leave(_ context.Context, v events.Verb) error { b.left <- v; return nil }

// TestController: a legacy controller loads a disk and shuts the machine down.
func TestController(t *testing.T) {
	image := lab.NewImage(t, 4, 7)
	images := lab.Serve(t, image)
	images.StartData()
	b := &box{path: filepath.Join(t.TempDir(), "disk"), imaging: true, left: make(chan events.Verb, 2)}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	l, err := listener.New(listener.Config{Listener: ln, Machine: &Machine{Machine: b}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-done) }()

	c, err := net.Dial("tcp4", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	split := legacy.NewSplitter("n_1_1")
	buf := make([]byte, 4096)
	talk := func(line string, last *regexp.Regexp) (heard []string) {
		_, err := c.Write([]byte(line))
		require.NoError(t, err)
		for deadline := time.Now().Add(20 * time.Second); ; {
			_ = c.SetReadDeadline(time.Now().Add(legacy.QuietTime * time.Millisecond))
			n, err := c.Read(buf)
			heard = append(heard, split.Write(buf[:n])...)
			if err != nil {
				heard = append(heard, split.Flush()...)
			}
			if slices.ContainsFunc(heard, last.MatchString) {
				return heard
			}
			require.True(t, time.Now().Before(deadline), heard)
		}
	}
	talk("0 * YOUARE n_1_1 0\n", regexp.MustCompile("HB"))
	s := images.Session()
	heard := talk(fmt.Sprintf("1 * LOAD_IMAGE %s %d /dev/sda\n", s.Group, s.Port), regexp.MustCompile("DONE"))
	require.Contains(t, heard, `n_1_1 0 APP_EVENT DONE.OK builtin:load_image "status: 0"`)
	require.Regexp(t, `Progress: [1-9]0% 00000\d 00000[1-4]`, heard)
	require.Regexp(t, `Wrote \d+ bytes \(\d+ actual\)`, heard)
	first, last, ok, err := image.Damage(b.path)
	require.NoError(t, err)
	require.True(t, ok, "%d to %d", first, last)

	heard = talk("2 * LOAD_IMAGE 239.1.1.1 7000 /dev/hda\n", regexp.MustCompile("DONE"))
	require.Regexp(t, "opening output file: no disk /dev/hda", heard)
	require.Contains(t, heard, `n_1_1 0 APP_EVENT DONE.ERROR builtin:load_image "status: 256"`)
	heard = talk("3 * EXEC e1 rm -rf /\n", regexp.MustCompile("DONE"))
	require.Contains(t, heard, `n_1_1 0 APP_EVENT DONE.ERROR e1 "status: 256"`)
	b.imaging = false
	heard = talk("4 * LOAD_IMAGE 239.1.1.1 7000 /dev/sda\n", regexp.MustCompile("DONE"))
	require.Regexp(t, "not the imaging system", heard)
	talk("5 * SAVE_IMAGE host:/x y.ndz\n", regexp.MustCompile("While mounting"))
	talk("6 * EXEC shutdown/1 shutdown -h now\n", regexp.MustCompile(`DONE.OK shutdown/1`))
	require.Equal(t, events.VerbHalt, <-b.left)
	talk("7 * REBOOT\n", regexp.MustCompile("STATUS system REBOOTING"))
	require.Equal(t, events.VerbReboot, <-b.left)
}

func TestLeaving(t *testing.T) {
	for words, want := range map[[3]string]events.Verb{
		{"shutdown", "-h", "now"}: events.VerbHalt, {"/sbin/shutdown", "-r", "now"}: events.VerbReboot, {"reboot", "", ""}: events.VerbReboot,
		{"poweroff", "-f", ""}: events.VerbHalt, {"shutdown", "-k", "now"}: "", {"sh", "-c", "reboot"}: "", {"", "", ""}: "",
	} {
		got, ok := leaving(words[:])
		require.Equal(t, want, got, words)
		require.Equal(t, want != "", ok)
	}
	_, ok := leaving(nil)
	require.False(t, ok)
}
