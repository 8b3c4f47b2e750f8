package sim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

// store is an image service that keeps what came whole.
type store struct {
	mu     sync.Mutex
	images [][]byte
	broken []int // bytes of what did not come whole
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(events.Place{State: events.PlaceOpen}) // the agent sees what is missing
		return
	}
	data, err := io.ReadAll(r.Body)
	sum := sha256.Sum256(data)
	if err == nil && r.Trailer.Get("Loadnode-Sha256") != hex.EncodeToString(sum[:]) {
		err = errors.New("not what was sent")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.broken = append(s.broken, len(data))
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.images = append(s.images, data)
	_ = json.NewEncoder(w).Encode(events.Image{Name: "new.ndz", Size: int64(len(data)), Digest: hex.EncodeToString(sum[:])}) // likewise
}

func (b *bench) save(url, node, boot string, attempt int) events.Data {
	b.t.Helper()
	b.command(node, events.VerbSave, events.SaveCommand{
		NodeRef: b.ref(node, boot, attempt), Effect: events.EffectID(job, node, "save", attempt), Image: "new.ndz", Disk: "/dev/sda",
		Place: events.Place{Image: "new.ndz", URL: url, Token: "secret", State: events.PlaceOpen},
	})
	return bustest.AwaitOutcome(b.t, b.handler, node, attempt)
}

// TestSave: what was loaded is saved, and installed again is the same; a cut
// connection is class store, once.
func TestSave(t *testing.T) {
	for _, fault := range []string{"", "cut", "cut=1"} {
		t.Run(fault, func(t *testing.T) {
			change := func(*sim.Config) {}
			if fault != "" {
				change = faults(t, fault)
			}
			b := newBench(t, []string{n}, change)
			b.images.StartData()
			var s store
			web := httptest.NewServer(&s)
			t.Cleanup(web.Close)
			boot := b.netboot(n, "e1")
			b.load(n, boot, 1, "")
			b.done(n, 1)
			attempt := 2
			if fault != "" {
				d := b.save(web.URL, n, boot, attempt)
				require.IsType(t, events.SaveFailed{}, d)
				failed := d.(events.SaveFailed)
				require.Equal(t, events.ClassStore, failed.Class)
				require.True(t, failed.Retryable)
				require.Contains(t, failed.Message, "cut")
				attempt++
			}
			d := b.save(web.URL, n, boot, attempt)
			require.IsType(t, events.SaveDone{}, d, "%+v", d)
			s.mu.Lock()
			defer s.mu.Unlock()
			require.Len(t, s.images, 1)
			if fault != "" {
				require.Len(t, s.broken, 1)
				require.NotZero(t, s.broken[0])
			}
			copied := t.TempDir() + "/copy"
			installImage(t, s.images[0], copied)
			want, err := os.ReadFile(sim.DiskPath(b.dir, n))
			require.NoError(t, err)
			got, err := os.ReadFile(copied)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), "the image is the disk")
		})
	}
}

func installImage(t *testing.T, image []byte, path string) {
	t.Helper()
	m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	target, err := disk.Open(path, disk.Options{Create: true})
	require.NoError(t, err)
	defer target.Close()
	in, err := install.New(install.Config{Target: target, Manifest: m})
	require.NoError(t, err)
	for i := range m.Chunks {
		require.NoError(t, in.Install(t.Context(), i, image[i*ndz.ChunkSize:][:ndz.ChunkSize]))
	}
	_, err = in.Finish(t.Context())
	require.NoError(t, err)
}

func TestSaveOfAnEmptyDisk(t *testing.T) {
	var s store
	web := httptest.NewServer(&s)
	t.Cleanup(web.Close)
	b := newBench(t, []string{n}, nil)
	d := b.save(web.URL, n, b.netboot(n, "e1"), 1)
	require.IsType(t, events.SaveFailed{}, d)
	require.Equal(t, events.ClassRefused, d.(events.SaveFailed).Class, "a disk that nobody has made")
	b.end()

	b = newBench(t, []string{n}, func(cfg *sim.Config) { cfg.DiskSize = 8 << 20 })
	d = b.save(web.URL, n, b.netboot(n, "e1"), 1)
	require.IsType(t, events.SaveDone{}, d, "%+v", d)
	require.EqualValues(t, 8<<20, d.(events.SaveDone).DiskBytes)
}
