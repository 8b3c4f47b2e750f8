package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/agent"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/ndz"
)

// shelf is a scripted image service: it takes one image.
type shelf struct {
	t     *testing.T
	http  *httptest.Server
	token string

	mu     sync.Mutex
	place  events.Place                          // as GET shows it
	before func(http.ResponseWriter) bool        // answers any request itself if it says so
	slow   func(read int64) error                // called with the bytes read so far
	answer func(image events.Image) events.Image // changes the answer
	came   []byte                                // what came whole
	puts   int
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, token: "secret", place: events.Place{Image: "new.ndz", State: events.PlaceOpen}}
	s.http = httptest.NewServer(s)
	t.Cleanup(s.http.Close)
	return s
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	before, slow, place := s.before, s.slow, s.place
	if r.Method == http.MethodPut {
		s.puts++
	}
	s.mu.Unlock()
	if before != nil && before(w) {
		return
	}
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(place) // the agent sees what is missing
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		refuse(w, http.StatusForbidden, events.CodeRefused, "not the token")
		return
	}
	var data bytes.Buffer
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(buf)
		data.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err == nil && slow != nil {
			err = slow(int64(data.Len()))
		}
		if err != nil {
			refuse(w, http.StatusBadRequest, events.CodeFailed, err.Error())
			return
		}
	}
	sum := sha256.Sum256(data.Bytes())
	if r.Trailer.Get("Loadnode-Length") != strconv.Itoa(data.Len()) || r.Trailer.Get("Loadnode-Sha256") != hex.EncodeToString(sum[:]) {
		refuse(w, http.StatusBadRequest, events.CodeFailed, "it did not come whole")
		return
	}
	m, err := ndz.BuildManifest(r.Context(), bytes.NewReader(data.Bytes()), int64(data.Len()))
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, events.CodeDamaged, err.Error())
		return
	}
	image := events.Image{Name: place.Image, Digest: m.Root().String(), Size: m.Size, Chunks: len(m.Chunks), DiskBytes: m.Bytes(),
		DataBytes: m.DataBytes, SectorSize: m.SectorSize, Format: "ndz"}
	s.mu.Lock()
	s.came = data.Bytes()
	if s.answer != nil {
		image = s.answer(image)
	}
	s.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(image) // likewise
}

func refuse(w http.ResponseWriter, status int, code events.Code, message string) {
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]*events.Error{"error": {Code: code, Message: message}}) // likewise
}

func (s *shelf) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// image is what came.
func (s *shelf) image() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came
}

const diskSize = 5 << 20

// saveBench is a bench with a full disk and a place for its image.
func saveBench(t *testing.T, change ...func(*agent.Config, *fileMachine)) (*bench, *shelf) {
	t.Helper()
	b := newBench(t, change...)
	data := make([]byte, diskSize)
	rand.NewChaCha8([32]byte{3}).Read(data)
	require.NoError(t, os.WriteFile(b.machine.path, data, 0o600))
	b.up()
	return b, newShelf(t)
}

func (b *bench) saveCommand(s *shelf) events.SaveCommand {
	return events.SaveCommand{
		NodeRef: events.NodeRef{Job: jobID, Node: nodeName, Attempt: 1, Boot: bootID}, Effect: events.EffectID(jobID, nodeName, "save", 1),
		Image: "new.ndz", Disk: "/dev/sda", Level: 1,
		Place: events.Place{Image: "new.ndz", URL: s.http.URL + "/v1/save/0", Token: s.token, State: events.PlaceOpen},
	}
}

func (b *bench) saveOutcome(attempt int) events.Data {
	b.t.Helper()
	return bustest.AwaitOutcome(b.t, b.handler, nodeName, attempt)
}

func (b *bench) saved() events.SaveDone {
	b.t.Helper()
	d := b.saveOutcome(1)
	require.IsType(b.t, events.SaveDone{}, d, "%+v", d)
	return d.(events.SaveDone)
}

func (b *bench) saveFailed() events.SaveFailed {
	b.t.Helper()
	d := b.saveOutcome(1)
	require.IsType(b.t, events.SaveFailed{}, d, "%+v", d)
	return d.(events.SaveFailed)
}

func TestSave(t *testing.T) {
	b, s := saveBench(t)
	cmd := b.saveCommand(s)
	require.Equal(t, "saving", b.obeyed(events.VerbSave, cmd).State)
	done := b.saved()
	require.Equal(t, cmd.NodeRef, done.NodeRef)
	require.Equal(t, "new.ndz", done.Image.Name)
	require.EqualValues(t, diskSize, done.DiskBytes)
	require.EqualValues(t, diskSize, done.BytesRead)
	require.EqualValues(t, len(s.image()), done.BytesSent)
	require.Equal(t, done.BytesSent, done.Counters["bytes_sent"])
	m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(s.image()), int64(len(s.image())))
	require.NoError(t, err)
	require.Equal(t, m.Root().String(), done.Image.Digest)
	want, err := os.ReadFile(b.machine.path)
	require.NoError(t, err)
	require.Equal(t, dataOf(t, s.image()), sha256.Sum256(want), "the image is the disk")

	require.Equal(t, []events.Kind{events.KindUp, events.KindSaveStarted, events.KindSaveDone}, b.kinds())
	_, d := bustest.AwaitReport(t, b.handler, nodeName, events.KindSaveStarted)
	require.Equal(t, events.SaveStarted{NodeRef: cmd.NodeRef, Image: "new.ndz", Disk: events.Disk{Path: b.machine.path, Size: diskSize, SectorSize: 512}}, d)
	reply := b.obeyed(events.VerbProbe, nil)
	require.Equal(t, "saved", reply.State)
	require.Zero(t, reply.Loads)
	require.InDelta(t, 100, reply.Percent, 0.01)
	last := bustest.Await(t, b.handler, bus.StreamTelemetry, events.SaveProgressSubject(bustest.Testbed, jobID, nodeName), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		return err == nil && d.(events.SaveProgress).Phase == "done"
	})
	d, err = events.Decode(last.Event)
	require.NoError(t, err)
	require.Equal(t, done.BytesSent, d.(events.SaveProgress).BytesSent)

	// A repeated command is answered with the outcome, which is reported again.
	first := bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindSaveDone), nil)
	require.Equal(t, "saved", b.obeyed(events.VerbSave, cmd).State)
	again := bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindSaveDone),
		func(m bus.Message) bool { return m.Event.ID() != first.Event.ID() })
	require.JSONEq(t, string(first.Event.Data()), string(again.Event.Data()))
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, 1, s.puts)
}

// dataOf is the digest of the data in an image of one run.
func dataOf(t *testing.T, image []byte) (sum [32]byte) {
	t.Helper()
	h := sha256.New()
	for chunk := range bytesChunks(image) {
		head, err := ndz.ParseHeader(chunk)
		require.NoError(t, err)
		data, err := ndz.Inflate(chunk, head, nil)
		require.NoError(t, err)
		h.Write(data)
	}
	return [32]byte(h.Sum(nil))
}

func bytesChunks(image []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for i := 0; i < len(image); i += ndz.ChunkSize {
			if !yield(image[i : i+ndz.ChunkSize]) {
				return
			}
		}
	}
}

func TestSaveCommandsThatAreRefused(t *testing.T) {
	b, s := saveBench(t)
	for name, c := range map[string]struct {
		change func(*events.SaveCommand)
		code   events.Code
	}{
		"another boot": {func(c *events.SaveCommand) { c.Boot = "boot-0" }, events.CodeStale},
		"no boot":      {func(c *events.SaveCommand) { c.Boot = "" }, events.CodeBadRequest},
		"another node": {func(c *events.SaveCommand) { c.Node = "n1-2" }, events.CodeBadRequest},
		"no job":       {func(c *events.SaveCommand) { c.Job = "" }, events.CodeRefused},
		"no attempt":   {func(c *events.SaveCommand) { c.Attempt = 0 }, events.CodeBadRequest},
		"level":        {func(c *events.SaveCommand) { c.Level = 10 }, events.CodeBadRequest},
	} {
		cmd := b.saveCommand(s)
		c.change(&cmd)
		require.NotNil(t, b.refused(c.code, events.VerbSave, cmd), name)
	}
	b.refused(events.CodeBadRequest, events.VerbSave, "x")
	require.Equal(t, "idle", b.obeyed(events.VerbProbe, nil).State)
	require.Equal(t, []events.Kind{events.KindUp}, b.kinds())
	t.Run("not in the imaging system", func(t *testing.T) {
		b, s := saveBench(t, func(_ *agent.Config, m *fileMachine) { m.imaging = false })
		b.refused(events.CodeRefused, events.VerbSave, b.saveCommand(s))
	})
	t.Run("a loader that saves nothing", func(t *testing.T) {
		b, s := saveBench(t, func(cfg *agent.Config, _ *fileMachine) { cfg.Loader = onlyLoads{} })
		b.refused(events.CodeUnsupported, events.VerbSave, b.saveCommand(s))
	})
}

type onlyLoads struct{}

func (onlyLoads) Load(context.Context, agent.Load) (events.LoadDone, error) {
	return events.LoadDone{}, errors.New("not here")
}

func TestSaveFailuresHaveTheirClass(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*bench, *shelf)
		change  func(*events.SaveCommand)
		class   events.Class
		retry   bool
		says    string
		started bool
	}{
		"the gate says no": {
			prepare: func(b *bench, _ *shelf) { b.machine.refuse = fmt.Errorf("/dev/sda: %w on /", disk.ErrMounted) },
			class:   events.ClassRefused, says: "mounted",
		},
		"no disk": {
			prepare: func(b *bench, _ *shelf) { require.NoError(b.t, os.Remove(b.machine.path)) },
			class:   events.ClassRefused, says: "no such disk",
		},
		"an empty disk": {
			prepare: func(b *bench, _ *shelf) { require.NoError(b.t, os.Truncate(b.machine.path, 0)) },
			class:   events.ClassRefused, says: "empty",
		},
		"a read fails": {
			prepare: func(b *bench, _ *shelf) {
				b.machine.wrap = func(t disk.Target) disk.Target {
					return &faultyTarget{Target: t, read: func(off int64, n int) error {
						if off <= 3<<20 && off+int64(n) > 3<<20 {
							return unix.EIO
						}
						return nil
					}}
				}
			},
			class: events.ClassRead, says: "input/output error",
		},
		"the place is over": {
			prepare: func(_ *bench, s *shelf) { s.place.State, s.place.Message = events.PlaceFailed, "given up" },
			class:   events.ClassStore, retry: true, says: "given up",
		},
		"not an address": {
			change: func(c *events.SaveCommand) { c.Place.URL = "file:///etc/passwd" },
			class:  events.ClassStore, says: "not an http address",
		},
		"not the token": {
			change: func(c *events.SaveCommand) { c.Place.Token = "guess" },
			class:  events.ClassStore, retry: true, says: "403",
		},
		"the name is taken": {
			prepare: func(_ *bench, s *shelf) {
				s.slow = func(int64) error { return errors.New("x") }
				s.before = func(w http.ResponseWriter) bool { return false }
				s.http.Config.Handler = conflict{s}
			},
			class: events.ClassImage, says: "exists",
		},
		"the service gives up": {
			prepare: func(_ *bench, s *shelf) {
				s.slow = func(n int64) error {
					if n > 2<<20 {
						return errors.New("enough")
					}
					return nil
				}
			},
			class: events.ClassStore, retry: true, started: true,
		},
		"the service breaks the connection": {
			prepare: func(_ *bench, s *shelf) {
				s.slow = func(n int64) error {
					if n > 2<<20 {
						panic(http.ErrAbortHandler)
					}
					return nil
				}
			},
			class: events.ClassStore, retry: true, started: true,
		},
		"the service stored something else": {
			prepare: func(_ *bench, s *shelf) {
				s.answer = func(i events.Image) events.Image { i.Size++; return i }
			},
			class: events.ClassStore, retry: true, started: true, says: "it stored",
		},
		"the deadline is in the past": {
			change: func(c *events.SaveCommand) { c.Deadline = time.Now().Add(-time.Hour) },
			class:  events.ClassTimeout, says: "deadline",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, s := saveBench(t)
			if c.prepare != nil {
				c.prepare(b, s)
			}
			cmd := b.saveCommand(s)
			if c.change != nil {
				c.change(&cmd)
			}
			b.obeyed(events.VerbSave, cmd)
			f := b.saveFailed()
			require.Equal(t, c.class, f.Class, f.Message)
			require.Equal(t, c.retry, f.Retryable)
			require.Contains(t, f.Message, c.says)
			require.NotContains(t, f.Message+f.Evidence.Text, s.token)
			if c.class == events.ClassRead {
				require.LessOrEqual(t, *f.Evidence.First, int64(3<<20))
				require.Greater(t, *f.Evidence.Last, int64(3<<20))
			} else {
				require.Equal(t, c.started, len(b.kinds()) == 3, b.kinds())
			}
			require.Equal(t, "failed", b.obeyed(events.VerbProbe, nil).State)
			require.Equal(t, "failed", b.obeyed(events.VerbSave, cmd).State, "the same attempt is not made twice")
		})
	}
}

// conflict answers as the image service does if the name was taken meanwhile.
type conflict struct{ s *shelf }

func (c conflict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		c.s.ServeHTTP(w, r)
		return
	}
	refuse(w, http.StatusConflict, events.CodeConflict, "image exists already: new.ndz")
}

// TestSaveWaitsForTheService: a service that is about to start is waited for,
// and one that is not there is named.
func TestSaveWaitsForTheService(t *testing.T) {
	b, s := saveBench(t)
	tries := 0
	s.set(func() {
		s.before = func(w http.ResponseWriter) bool {
			if tries++; tries > 2 {
				return false
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	})
	b.obeyed(events.VerbSave, b.saveCommand(s))
	b.saved()

	other := b.saveCommand(s)
	other.Job, other.Attempt = otherJob, 7
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	other.Place.URL = "http://" + ln.Addr().String() + "/v1/save/0"
	b.obeyed(events.VerbSave, other)
	require.Equal(t, "saving", b.obeyed(events.VerbProbe, nil).State)
	b.obeyed(events.VerbStop, events.StopCommand{NodeRef: events.NodeRef{Job: otherJob}})
	require.Equal(t, events.ClassCancelled, b.saveOutcome(7).(events.SaveFailed).Class)
}

// TestSaveIsStopped: with a service that reads nothing the disk is not read
// on, and whatever ends the save ends it at once.
func TestSaveIsStopped(t *testing.T) {
	for name, c := range map[string]struct {
		end   func(*bench, events.SaveCommand)
		class events.Class
	}{
		"by command": {func(b *bench, cmd events.SaveCommand) {
			b.obeyed(events.VerbStop, events.StopCommand{NodeRef: cmd.NodeRef})
		}, events.ClassCancelled},
		"by a later attempt": {func(b *bench, cmd events.SaveCommand) { cmd.Attempt = 2; b.obeyed(events.VerbSave, cmd) }, events.ClassCancelled},
		"by leaving": {func(b *bench, cmd events.SaveCommand) {
			b.obeyed(events.VerbHalt, events.LeaveCommand{NodeRef: cmd.NodeRef})
		}, events.ClassCancelled},
		"by the end of the agent": {func(b *bench, cmd events.SaveCommand) { b.wait() }, events.ClassCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			b, s := saveBench(t)
			full := make(chan struct{})
			release := make(chan struct{})
			var once sync.Once
			s.set(func() {
				s.slow = func(n int64) error {
					if n > 1<<20 {
						once.Do(func() { close(full) })
						<-release
					}
					return nil
				}
			})
			defer close(release)
			cmd := b.saveCommand(s)
			cmd.Level = 1
			require.NoError(t, os.Truncate(b.machine.path, 16<<20)) // holes compress well; the random part fills the way
			b.obeyed(events.VerbSave, cmd)
			<-full
			c.end(b, cmd)
			f := b.saveFailed()
			require.Equal(t, c.class, f.Class, f.Message)
			require.Nil(t, s.image())
		})
	}
}

// TestSaveAndLoadAreOneAtATime: neither begins while the other runs.
func TestSaveAndLoadAreOneAtATime(t *testing.T) {
	b, s := saveBench(t)
	release := make(chan struct{})
	s.set(func() { s.slow = func(int64) error { <-release; return nil } })
	cmd := b.saveCommand(s)
	b.obeyed(events.VerbSave, cmd)
	load := b.command()
	load.Job = otherJob
	require.Equal(t, jobID, b.refused(events.CodeBusy, events.VerbLoad, load).Job)
	require.Equal(t, "saving", b.obeyed(events.VerbSave, cmd).State)
	close(release)
	b.saved()
}

// TestSaveInAWrongTime: deadlines are in the time of the server.
func TestSaveInAWrongTime(t *testing.T) {
	b, s := saveBench(t, func(cfg *agent.Config, _ *fileMachine) { cfg.Clock = wrongClock(-56 * 8760 * time.Hour) })
	cmd := b.saveCommand(s)
	cmd.Deadline = time.Now().Add(-time.Minute)
	b.obeyed(events.VerbSave, cmd)
	require.Equal(t, events.ClassTimeout, b.saveFailed().Class)
}
