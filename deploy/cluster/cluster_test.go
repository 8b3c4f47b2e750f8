package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/bus/credential/callout"
	"loadnode/events"
	"loadnode/internal/freeport"
	"loadnode/internal/process"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

const (
	testbed       = "default"
	columns, rows = 10, 5
	imageName     = "small.ndz"
)

// system is the whole of it.
type system struct {
	t        *testing.T
	dir      string
	urls     []string
	servers  []*server.Server
	handlers map[string]*process.Process // by the id that each has on the bus
	conn     *bus.Conn
	want     []byte // what a loaded disk holds
	nodes    []string
}

// startServers runs the three servers of the bus, from the very file that
// others install; only addresses and directories are those of the test.
func (s *system) startServers(issuer string) {
	var free [6]uint16
	for i := range free {
		free[i] = freeport.TCP(s.t, "127.0.0.1")
	}
	for name, value := range map[string]string{
		"LOADNODE_ROUTE_PASSWORD": "route-secret", "LOADNODE_LEAF_PASSWORD": "leaf-secret", "LOADNODE_AUTH_PASSWORD": "auth-secret", "LOADNODE_SYS_PASSWORD": "sys-secret", "LOADNODE_AUTH_ISSUER": issuer,
	} {
		s.t.Setenv(name, value)
	}
	for i := range 3 {
		s.t.Setenv(fmt.Sprint("LOADNODE_ROUTE_", i+1), fmt.Sprintf("nats-route://route:route-secret@127.0.0.1:%d", free[i]))
	}
	for i := range 3 {
		name := fmt.Sprint("bus", i+1)
		s.t.Setenv("LOADNODE_NATS_NAME", name)
		s.t.Setenv("LOADNODE_NATS_STORE", filepath.Join(s.dir, name))
		opts, err := server.ProcessConfigFile("../nats/hub.conf")
		require.NoError(s.t, err)
		opts.Host, opts.Port, opts.Cluster.Host, opts.Cluster.Port = "127.0.0.1", int(free[3+i]), "127.0.0.1", int(free[i])
		opts.LeafNode.Host, opts.LeafNode.Port = "127.0.0.1", -1
		opts.NoSigs, opts.NoLog = true, true
		srv, err := server.NewServer(opts)
		require.NoError(s.t, err)
		srv.Start()
		s.t.Cleanup(func() {
			srv.Shutdown()
			srv.WaitForShutdown()
		})
		s.servers = append(s.servers, srv)
	}
	for _, srv := range s.servers {
		require.True(s.t, srv.ReadyForConnections(patience))
		s.urls = append(s.urls, srv.ClientURL())
	}
}

// authKeys puts the key of the issuer and the passwords of the bus where the
// role auth finds them, and returns the public key.
func (s *system) authKeys() (issuer, users string) {
	key, err := nkeys.CreateAccount()
	require.NoError(s.t, err)
	seed, err := key.Seed()
	require.NoError(s.t, err)
	issuer, err = key.PublicKey()
	require.NoError(s.t, err)
	require.NoError(s.t, os.MkdirAll(filepath.Join(s.dir, "auth", "auth"), 0o700))
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, "auth", "auth", "issuer.nk"), seed, 0o600))
	users = filepath.Join(s.dir, "users.json")
	require.NoError(s.t, os.WriteFile(users, []byte(`{"auth": "auth-secret", "sys": "sys-secret"}`), 0o600))
	return issuer, users
}

// credential reads one that the role auth has made.
func (s *system) credential(name string) (file string, c events.Credential) {
	file = filepath.Join(s.dir, "auth", name+".json")
	require.Eventually(s.t, func() bool {
		b, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(b, &c) == nil
	}, patience, 10*time.Millisecond, file)
	return file, c
}

// start brings everything up and returns when the nodes' power is served.
func start(t *testing.T) *system {
	s := &system{t: t, dir: t.TempDir(), handlers: map[string]*process.Process{}}
	for x := range columns {
		for y := range rows {
			s.nodes = append(s.nodes, fmt.Sprintf("n%d-%d", x+1, y+1))
		}
	}
	issuer, users := s.authKeys()
	s.startServers(issuer)
	images := filepath.Join(s.dir, "images")
	require.NoError(t, os.Mkdir(images, 0o755))
	s.want = writeImage(t, filepath.Join(images, imageName))
	list := strings.Join(s.urls, ",")
	grid := fmt.Sprintf("%dx%d", columns, rows)
	serve := func(name, role string, more ...string) *process.Process {
		return begin(t, s.dir, name, append([]string{
			"serve", "--roles", role, "--state", filepath.Join(s.dir, name), "--grid", grid, "--nats", list,
			"--log", "info", "--checkin", "30s", "--join", "30s", "--sweep", "1s",
		}, more...)...)
	}
	waiting := []*process.Process{begin(t, s.dir, "auth", "serve", "--roles", "auth", "--state", filepath.Join(s.dir, "auth"), "--grid", grid, "--nats", list,
		"--http", "none", "--log", "info", "--auth-users", users)}
	service, own := s.credential("service")
	operator, _ := s.credential("operator")
	group := fmt.Sprintf("239.192.%d.0", 100+mathrand.N(100))
	for i := range 3 {
		waiting = append(waiting, serve(fmt.Sprint("handler", i+1), "handler", "--http", "none", "--credential", service))
	}
	waiting = append(waiting, serve("frisbee", "frisbee", "--credential", service, "--http", "127.0.0.1:0", "--images", images, "--group", group, "--port", fmt.Sprint(freeport.UDP(t)), "--rate", "20M"))
	for _, p := range waiting {
		p.Ready()
	}
	for i := range 3 {
		id, err := os.ReadFile(filepath.Join(s.dir, fmt.Sprint("handler", i+1), "handler", "handler-id"))
		require.NoError(t, err)
		s.handlers[strings.TrimSpace(string(id))] = waiting[1+i]
	}
	begin(t, s.dir, "sim", "sim", "--grid", grid, "--credential", operator, "--server", list, "--dir", filepath.Join(s.dir, "disks"), "--boot", "50ms-500ms", "--log", "info").Ready()
	var err error
	s.conn, err = bus.Connect(t.Context(), bus.Config{URLs: s.urls, Name: "proof", Timeout: patience, Credential: &own})
	require.NoError(t, err)
	t.Cleanup(s.conn.Close)
	return s
}

// writeImage writes an image with random data and returns what a disk must
// hold then.
func writeImage(t *testing.T, path string) []byte {
	t.Helper()
	const sectors = 8192
	data := ndztest.Run{Sector: 64, Data: ndztest.Noise(7, (sectors-64)*ndz.SectorSize)}
	require.NoError(t, os.WriteFile(path, ndztest.Image(t, sectors, data), 0o644))
	return ndztest.Unit(sectors, data)
}

// load asks for all nodes and returns the job.
func (s *system) load(ctx context.Context) string {
	id, err := events.NewULID(time.Now(), rand.Reader)
	require.NoError(s.t, err)
	ev, err := events.New(events.Meta{ID: id, Source: "/omf/default/cli/proof", Time: time.Now()}, events.LoadRequest{Nodes: "all", Image: imageName})
	require.NoError(s.t, err)
	_, err = s.conn.Publish(ctx, events.RequestSubject(testbed, events.VerbLoad), ev)
	require.NoError(s.t, err)
	return id
}

// TestLeaderIsKilled kills the server that leads the stream of facts in the
// middle of a load.
func TestLeaderIsKilled(t *testing.T) {
	s := start(t)
	s.run(func(context.Context, string) {
		for _, srv := range s.servers {
			if srv.JetStreamIsStreamLeader(callout.Account, bus.StreamFacts) {
				t.Logf("the leader of %s is %s", bus.StreamFacts, srv.Name())
				srv.Shutdown()
				srv.WaitForShutdown()
				return
			}
		}
		t.Fatal("no server leads " + bus.StreamFacts)
	})
}

// TestOwnerIsKilled kills the handler that owns the job in the middle of the
// load.
func TestOwnerIsKilled(t *testing.T) {
	s := start(t)
	s.run(func(ctx context.Context, job string) {
		js := s.conn.JetStream()
		kv, err := js.KeyValue(ctx, "OMF_OWNERS")
		require.NoError(t, err)
		e, err := kv.Get(ctx, events.Escape("job/"+testbed+"/"+job))
		require.NoError(t, err)
		owner := s.handlers[string(e.Value())]
		require.NotNil(t, owner, "handler %s", e.Value())
		t.Logf("the owner is %s", owner.Name())
		owner.Kill()
	})
}

// run loads all nodes, strikes when some of them load, and looks at what
// became of it.
func (s *system) run(strike func(ctx context.Context, job string)) {
	t := s.t
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	job := s.load(ctx)
	count := map[string]map[events.Kind]int{}
	loading, done := 0, 0
	struck := false
	var result events.JobFinished
	err := s.conn.Watch(ctx, bus.WatchConfig{Stream: bus.StreamFacts, Filters: []string{events.JobFacts(testbed, job)}}, func(m bus.Message) error {
		require.NoError(t, m.Err)
		of := count[m.Address.Node]
		if of == nil {
			of = map[events.Kind]int{}
			count[m.Address.Node] = of
		}
		of[m.Address.Kind]++
		switch m.Address.Kind {
		case events.KindLoadStarted:
			loading++
		case events.KindLoadDone:
			done++
		case events.KindJobRejected:
			return fmt.Errorf("rejected: %s", m.Event.Data())
		case events.KindJobFinished:
			d, err := events.Decode(m.Event)
			require.NoError(t, err)
			result = d.(events.JobFinished)
			return bus.ErrStop
		}
		if !struck && loading >= len(s.nodes)/2 {
			require.Less(t, done, len(s.nodes)/2, "the blow comes in the middle")
			struck = true
			strike(ctx, job)
		}
		return nil
	})
	require.NoError(t, err, "%d load, %d are done", loading, done)
	require.True(t, struck)

	require.Equal(t, events.OutcomeOK, result.Outcome, "%+v", result)
	require.Equal(t, len(s.nodes), result.OK)
	for _, node := range s.nodes {
		require.Equal(t, map[events.Kind]int{
			events.KindRebootRequested: 1, events.KindPxeUp: 1, events.KindLoadStarted: 1, events.KindLoadDone: 1,
			events.KindShutdownRequested: 1, events.KindShutdownDone: 1,
		}, count[node], node)
		disk, err := os.ReadFile(sim.DiskPath(filepath.Join(s.dir, "disks"), node))
		require.NoError(t, err)
		require.Equal(t, len(s.want), len(disk), node)
		require.True(t, string(s.want) == string(disk), "the disk of %s differs", node)
		var power events.PowerState
		require.NoError(t, s.conn.Request(ctx, events.PowerSubject(testbed, node, events.PowerStatus), nil, &power))
		require.Equal(t, "off", power.Power, node)
		require.Equal(t, 1, power.Cycles, "%s was started once", node)
	}
	s.once(ctx, job)
	var state events.NodeList
	require.NoError(t, s.conn.Request(ctx, events.HandlerSubject(testbed, events.HandlerNodes), events.NodesQuery{}, &state))
	require.Len(t, state.Nodes, len(s.nodes))
	for _, n := range state.Nodes {
		require.Empty(t, n.Job, "%s is free", n.Name)
	}
}

// once checks what the agents themselves say: each began one load, of the
// first attempt, in one boot.
func (s *system) once(ctx context.Context, job string) {
	began := map[string]map[string]bool{}
	caught := false
	err := s.conn.Watch(ctx, bus.WatchConfig{Stream: bus.StreamReports, CaughtUp: func() { caught = true }}, func(m bus.Message) error {
		if m.Address.Kind == events.KindLoadStarted {
			var d events.LoadStarted
			require.NoError(s.t, json.Unmarshal(m.Event.Data(), &d))
			require.Equal(s.t, 1, d.Attempt)
			require.Equal(s.t, job, d.Job)
			if began[m.Address.Node] == nil {
				began[m.Address.Node] = map[string]bool{}
			}
			began[m.Address.Node][m.Event.ID()] = true
		}
		if m.Address.Kind == events.KindLeaving && len(began) == len(s.nodes) {
			return bus.ErrStop
		}
		return nil
	})
	require.NoError(s.t, err, "caught up: %v", caught)
	for node, reports := range began {
		require.Len(s.t, reports, 1, "loads of %s", node)
	}
}
