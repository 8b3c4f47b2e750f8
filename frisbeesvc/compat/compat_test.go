package compat

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/internal/vectors"
)

// world is what stands behind the services.
type world struct {
	mu      sync.Mutex
	images  []string
	leases  map[string][]string // by image
	ports   map[string]uint16
	serves  int
	nodes   []events.NodeState
	grid    [2]int
	told    []string
	broken  string // node whose controller does not answer
	noLinks bool   // the handler has no directory of boot links
	away    bool   // nobody answers at all

	places   map[string]*events.Place // by lease
	requests []events.ReceiveRequest
	now      time.Time
}

func (w *world) ask(_ context.Context, subject string, req, resp any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return &events.Error{Code: events.CodeUnavailable, Message: "nobody answers"}
	}
	switch verb := subject[strings.LastIndex(subject, ".")+1:]; verb {
	case events.FrisbeeCheck:
		if !slices.Contains(w.images, req.(events.ImageQuery).Image) {
			return &events.Error{Code: events.CodeImage, Message: "no such image"}
		}
	case events.FrisbeeServe:
		q := req.(events.ServeRequest)
		w.serves++
		if !slices.Contains(w.images, q.Image) {
			return &events.Error{Code: events.CodeImage, Message: "no such image"}
		}
		if w.ports[q.Image] == 0 {
			port := uint16(7000)
			for slices.Contains(slices.Collect(maps.Values(w.ports)), port) {
				port++
			}
			w.ports[q.Image] = port
		}
		if !slices.Contains(w.leases[q.Image], q.Lease) {
			w.leases[q.Image] = append(w.leases[q.Image], q.Lease)
		}
		resp.(*events.ImageServed).Session = w.session(q.Image)
	case events.FrisbeeRelease:
		q := req.(events.LeaseRelease)
		w.leases[q.Image] = slices.DeleteFunc(w.leases[q.Image], func(l string) bool { return l == q.Lease })
		if len(w.leases[q.Image]) == 0 {
			delete(w.ports, q.Image)
		}
	case events.FrisbeeReceive:
		q := req.(events.ReceiveRequest)
		if q.Image == "bad name" {
			return &events.Error{Code: events.CodeBadRequest, Message: "not a name"}
		}
		place, ok := w.places[q.Lease]
		if !ok {
			taken := slices.Contains(w.images, q.Image)
			for _, p := range w.places {
				taken = taken || p.Image == q.Image && p.State != events.PlaceFailed
			}
			if taken {
				return &events.Error{Code: events.CodeConflict, Message: "it is being saved already"}
			}
			w.requests = append(w.requests, q)
			place = &events.Place{Image: q.Image, Address: fmt.Sprintf("10.0.0.200:%d", 9000+len(w.places)), State: events.PlaceOpen, Expires: w.now.Add(time.Duration(q.Life))}
			w.places[q.Lease] = place
		}
		*resp.(*events.Place) = *place
	case events.FrisbeeAbandon:
		w.places[req.(events.LeaseRelease).Lease].State = events.PlaceFailed
	case events.FrisbeePlaces:
		for _, p := range w.places {
			list := resp.(*events.PlaceList)
			list.Places = append(list.Places, *p)
		}
	case events.FrisbeeStatus:
		st := resp.(*events.FrisbeeState)
		for img := range w.ports {
			st.Sessions = append(st.Sessions, events.SessionState{Session: w.session(img), Image: img, Leases: w.leases[img]})
		}
	case events.HandlerNodes:
		*resp.(*events.NodeList) = events.NodeList{Nodes: w.of(req.(events.NodesQuery).Nodes), Columns: w.grid[0], Rows: w.grid[1]}
	case events.HandlerPower:
		q := req.(events.PowerQuery)
		if strings.Contains(q.Nodes, "(") {
			return &events.Error{Code: events.CodeBadRequest, Message: "bad set"}
		}
		nodes := w.of(q.Nodes)
		if len(nodes) == 0 {
			return &events.Error{Code: events.CodeNode, Message: "no such node"}
		}
		w.told = append(w.told, q.Action+" "+q.Nodes)
		report := events.PowerReport{}
		for _, n := range nodes {
			r := events.PowerResult{Node: n.Name, X: n.X, Y: n.Y, Power: "on"}
			if n.Name == w.broken {
				r.Error = &events.Error{Code: events.CodeFailed, Message: "no route"}
			}
			report.Nodes = append(report.Nodes, r)
		}
		*resp.(*events.PowerReport) = report
	case events.HandlerNetboot:
		q := req.(events.NetbootQuery)
		if w.noLinks {
			return &events.Error{Code: events.CodeUnsupported, Message: "this handler sets no boot links", Hint: "tell it where they are"}
		}
		if strings.Contains(q.Nodes, "(") {
			return &events.Error{Code: events.CodeBadRequest, Message: "bad set"}
		}
		report := events.NetbootReport{}
		for _, n := range w.several(q.Nodes) {
			r := events.NetbootResult{Node: n.Name, X: n.X, Y: n.Y, IP: n.IP, Image: cmp.Or(q.Image, "orbit-1.0.0")}
			if n.Name == w.broken {
				r.Error = &events.Error{Code: events.CodeFailed, Message: "a file is in the way"}
			}
			report.Nodes = append(report.Nodes, r)
			w.told = append(w.told, q.Action+" "+n.Name+" "+r.Image)
		}
		if len(report.Nodes) == 0 {
			return &events.Error{Code: events.CodeNode, Message: "no such node"}
		}
		*resp.(*events.NetbootReport) = report
	default:
		return fmt.Errorf("unknown verb %s", verb)
	}
	return nil
}

func (w *world) session(img string) events.Session {
	return events.Session{ID: img, Group: "224.0.0.2", Port: w.ports[img], Rate: 50e6}
}

func (w *world) of(set string) (out []events.NodeState) {
	for _, n := range w.nodes {
		if set == "" || set == "all" || set == n.Name || set == fmt.Sprintf("[%d,%d]", n.X, n.Y) {
			out = append(out, n)
		}
	}
	return out
}

var pairs = regexp.MustCompile(`\[\d+,\d+\]`)

// several finds the nodes of a list of pairs, or of names.
func (w *world) several(set string) (out []events.NodeState) {
	list := pairs.FindAllString(set, -1)
	if list == nil {
		list = strings.Split(set, ",")
	}
	for _, one := range list {
		out = append(out, w.of(one)...)
	}
	return out
}

func grid(columns, rows int) (out []events.NodeState) {
	for x := 1; x <= columns; x++ {
		for y := 1; y <= rows; y++ {
			out = append(out, events.NodeState{Name: fmt.Sprintf("n%d-%d", x, y), X: x, Y: y, IP: fmt.Sprintf("10.18.%d.%d", x, y), MAC: "00:0f:ea:88:13:01"})
		}
	}
	return out
}

func newWorld() *world {
	return &world{
		images: []string{"baseline-2.1.ndz", "baseline.ndz", "wireless-2.6.ndz", "four.ndz"},
		leases: map[string][]string{}, ports: map[string]uint16{}, nodes: grid(2, 2), grid: [2]int{2, 2},
		places: map[string]*events.Place{}, now: time.Unix(1e9, 0),
	}
}

// start serves a world.
func start(t *testing.T, w *world, change func(*Config)) (*Service, *httptest.Server) {
	cfg := Config{Testbed: "default", Ask: w.ask, Base: "http://frisbee:5012", MaxDaemons: 3, Bandwidth: 50e6, Group: "224.0.0.2"}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	require.NoError(t, err)
	mux := http.NewServeMux()
	s.Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return s, srv
}

func get(t *testing.T, srv *httptest.Server, path string) (status int, kind, body string) {
	resp, err := srv.Client().Get(srv.URL + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

// exchange is one of a recording.
type exchange struct {
	path, kind, body string
	status           int
}

func recorded(t *testing.T, file string) (out []exchange) {
	raw := vectors.Read(t, "omf/"+file)
	kind := regexp.MustCompile(`'Content-?[Tt]ype: ([^']*)'`)
	for in := bufio.NewScanner(bytes.NewReader(raw)); in.Scan(); {
		line := strings.TrimSpace(in.Text())
		if path, ok := strings.CutPrefix(line, "GET "); ok {
			out = append(out, exchange{path: path})
		}
		if len(out) == 0 {
			continue
		}
		e := &out[len(out)-1]
		switch {
		case strings.HasPrefix(line, "HTTP/1.1 "):
			n, err := strconv.Atoi(line[9:12])
			require.NoError(t, err)
			e.status = n
		case strings.HasPrefix(line, "['"):
			e.kind = kind.FindStringSubmatch(line)[1]
		case e.status != 0 && e.body == "" && (strings.HasPrefix(line, "'") || strings.HasPrefix(line, `"`)):
			quoted := line[1 : len(line)-1]
			body, err := strconv.Unquote(`"` + strings.NewReplacer(`\'`, `'`, `"`, `\"`).Replace(quoted) + `"`)
			require.NoError(t, err, line)
			e.body = body
		}
	}
	require.NotEmpty(t, out)
	return out
}

var (
	timeLeft = regexp.MustCompile(`timeLeft='[0-9.]+'`)
	message  = regexp.MustCompile(`(?s)<H1>(.*?)</H1>\s*(.*?)\s*(?:<HR>|</BODY>)`)
)

// TestRecordings asks what the recorded clients asked, and hears the same, but for what the original does wrong.
func TestRecordings(t *testing.T) {
	differs := map[string]exchange{
		// A status before the first daemon, or of what nobody serves, is an empty one.
		"/frisbee/status":              {status: 200, kind: "text/xml", body: "<frisbee_status><bandwidth>50.0</bandwidth><mc_address>224.0.0.2</mc_address></frisbee_status>"},
		"/frisbee/status?img=nope.ndz": {status: 200, kind: "text/xml", body: "<frisbee_status><bandwidth>50.0</bandwidth><mc_address>224.0.0.2</mc_address></frisbee_status>"},
		// The directory of the images is nobody's business.
		"/frisbee/getAddress?img=nope.ndz": {status: 400, kind: "html", body: "Image file 'nope.ndz' not found"},
		// A service of OMF 5 is there as well.
		"/":                    {status: 200, kind: "text/xml", body: "<?xml version='1.0'?><serviceGroups><serviceGroup path='/cmc' name='cmc'><info>Information on available testbed resources and simple control functionality</info></serviceGroup><serviceGroup path='/inventory' name='inventory'><info>Service to retrieve information about nodes or testbeds from the Inventory Database</info></serviceGroup><serviceGroup path='/frisbee' name='frisbee'><info>Service to control frisbee servers to stream specific images</info></serviceGroup><serviceGroup path='/pxe' name='pxe'><info>Service to facilitate PXE to boot into specific image</info></serviceGroup><serviceGroup path='/saveimage' name='saveimage'><info>Service to receive and save disk images</info></serviceGroup></serviceGroups>"},
		"/inventory/getConfig": {status: 200, kind: "text/xml", body: "<CONFIG><x_max>2</x_max><y_max>2</y_max><pxe_url>http://frisbee:5012/pxe</pxe_url><cmc_url>http://frisbee:5012/cmc</cmc_url><oml_url><ERROR>Inventory has no info on [oml_url] for domain: default</ERROR></oml_url><oml_port><ERROR>Inventory has no info on [oml_port] for domain: default</ERROR></oml_port><oml_host><ERROR>Inventory has no info on [oml_host] for domain: default</ERROR></oml_host><oml_localhost><ERROR>Inventory has no info on [oml_localhost] for domain: default</ERROR></oml_localhost><frisbee_url>http://frisbee:5012/frisbee</frisbee_url><frisbee_default_disk>/dev/hda</frisbee_default_disk></CONFIG>"},
		// Messages of Ruby, and what became of evaluating what a client sent.
		"/pxe/setBootImageNS?ns=foo(":    {status: 400, kind: "html", body: "Error while parsing 'foo(': bad set"},
		"/pxe/setBootImageNS?ns=[[9,9]]": {status: 500, kind: "html", body: "no such node"},
		// Only the control interface is known.
		"/inventory/getAllMacAddresses?x=1&y=2": {status: 200, kind: "text/xml", body: "<MAC_Address><control>00:0F:EA:88:13:01</control></MAC_Address>"},
	}
	skipped := regexp.MustCompile(`^/inventory/getMacAddress|domain=(short|broken|planetlab)`) // other configurations
	for _, file := range []string{"omf-grid-01-frisbee.txt", "omf-grid-02-service-descriptions.txt", "omf-grid-03-inventory.txt", "omf-grid-04-pxe-cmc.txt"} {
		t.Run(file, func(t *testing.T) {
			w := newWorld()
			s, srv := start(t, w, nil)
			served := false
			for _, e := range recorded(t, file) {
				if skipped.MatchString(e.path) {
					continue
				}
				if strings.Contains(file, "cmc") && strings.HasPrefix(e.path, "/pxe/") { // two testbeds
					w.nodes = grid(2, 2)
				} else if strings.Contains(file, "cmc") {
					w.nodes = grid(1, 2)
				}
				if d, ok := differs[e.path]; ok && (e.path != "/frisbee/status" || e.status != 200) {
					e = exchange{e.path, d.kind, d.body, d.status}
				}
				status, kind, body := get(t, srv, e.path)
				require.Equal(t, e.status, status, "%s: %s", e.path, body)
				if status == http.StatusOK {
					require.Equal(t, e.kind, kind, e.path)
					require.Equal(t, timeLeft.ReplaceAllString(e.body, "timeLeft"), timeLeft.ReplaceAllString(body, "timeLeft"), e.path)
				} else {
					want, got := message.FindStringSubmatch(e.body), message.FindStringSubmatch(body)
					require.NotNil(t, got, body)
					if want != nil {
						require.Equal(t, want[1], got[1])
						require.Equal(t, want[2], strings.ReplaceAll(got[2], "&#39;", "'"))
					}
				}
				served = served || strings.Contains(body, "timeLeft")
				if strings.HasPrefix(e.path, "/frisbee/stop") { // a user for each getAddress
					for len(w.leases[strings.TrimPrefix(e.path, "/frisbee/stop?img=")]) > 0 {
						get(t, srv, e.path)
					}
				}
			}
			require.Equal(t, strings.Contains(file, "01"), served)
			_ = s
		})
	}
}

func TestVersion5(t *testing.T) {
	w := newWorld()
	_, srv := start(t, w, nil)
	for _, c := range [][2]string{
		{"/frisbee/status?user=ann", "<OK>No frisbee daemons are running</OK>"},
		{"/frisbee/status?user=ann&img=x.ndz", "<OK>No frisbee daemons are currently serving 'x.ndz'</OK>"},
		{"/frisbee/checkImage?user=ann&img=four.ndz", "<OK>Image found and readable</OK>"},
		{"/frisbee/checkImage?user=ann&img=nope.ndz", "<ERROR>Image file &apos;nope.ndz&apos; not found or not readable by user &apos;ann&apos;</ERROR>"},
		{"/frisbee/checkImage?user=ann&img=tmp/four.ndz", "<ERROR>Found unsafe characters in parameter &apos;img&apos;</ERROR>"},
		{"/frisbee/getAddress?user=ann&img=four.ndz", "<OK>224.0.0.2:7000</OK>"},
		{"/frisbee/getAddress?user=bob&img=four.ndz", "<OK>224.0.0.2:7000</OK>"},
		{"/frisbee/stop?user=bob&img=four.ndz", "<ERROR>Did not stop the frisbeed serving &apos;four.ndz&apos;.Either it is not running or some clients are still receiving data from it.</ERROR>"},
		{"/frisbee/stop?user=ann&img=four.ndz", "<OK>Stopped serving 'four.ndz' at 224.0.0.2:7000</OK>"},
		{"/inventory/getControlIP?hrn=n1-2", "<CONTROL_IP>10.18.1.2</CONTROL_IP>"},
		{"/inventory/getPXEImage?hrn=n1-2", "<PXE_IMAGE>orbit-1.0.0</PXE_IMAGE>"},
		{"/inventory/getListOfResources?domain=default&user=x", "<RESOURCES><NODE>n1-1</NODE><NODE>n1-2</NODE><NODE>n2-1</NODE><NODE>n2-2</NODE></RESOURCES>"},
		{"/cmc/status?hrn=n1-2", "<NODE_STATUS><detail><node hrn='n1-2' state='POWERON'/></detail></NODE_STATUS>"},
		{"/cmc/reset?hrn=n1-2", "<OK/>"},
	} {
		status, kind, body := get(t, srv, c[0])
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, "text/xml", kind)
		require.Equal(t, c[1], body, c[0])
	}
	require.Equal(t, []string{"status n1-2", "reset n1-2"}, w.told)
}

func TestBadRequests(t *testing.T) {
	w := newWorld()
	w.broken = "n2-2"
	_, srv := start(t, w, nil)
	for path, want := range map[string]int{
		"/frisbee/getAddress?img=../../etc/passwd": 400, "/frisbee/getAddress?img=%00": 400,
		"/frisbee/getAddress?img=" + strings.Repeat("x", 5000): 400,
		"/inventory/getControlIP":                              400, "/inventory/getControlIP?x=1;DROP&y=2": 400, "/inventory/getControlIP?x=-1&y=2": 400,
		"/cmc/on?x=9&y=9": 400, "/cmc/nodeSetOn": 400, "/cmc/nodeSetOn?nodes=system(": 400, "/cmc/allOn": 500, "/frisbee/nosuch": 200, "/nosuch": 404,
	} {
		status, _, body := get(t, srv, path)
		require.Equal(t, want, status, "%.60s: %s", path, body)
	}
	resp, err := srv.Client().Post(srv.URL+"/frisbee/checkImage", "application/x-www-form-urlencoded", strings.NewReader("img=four.ndz"))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	req, _ := http.NewRequest(http.MethodDelete, srv.URL+"/frisbee/stop?img=four.ndz", nil)
	resp, err = srv.Client().Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	w.away = true
	status, _, _ := get(t, srv, "/frisbee/status")
	require.Equal(t, http.StatusServiceUnavailable, status)
}

// TestManyRequests: 10 000 requests, 200 at a time: sessions and questions stay bounded.
func TestManyRequests(t *testing.T) {
	w := newWorld()
	_, srv := start(t, w, nil)
	srv.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 200
	var all sync.WaitGroup
	codes := make([]map[int]int, 200)
	for i := range codes {
		codes[i] = map[int]int{}
		all.Go(func() {
			for k := range 50 {
				img := w.images[(i+k)%4]
				resp, err := srv.Client().Get(srv.URL + "/frisbee/getAddress?img=" + img)
				if err != nil {
					codes[i][0]++
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				codes[i][resp.StatusCode]++
			}
		})
	}
	all.Wait()
	total := map[int]int{}
	for _, c := range codes {
		for code, n := range c {
			total[code] += n
		}
	}
	require.Equal(t, 10000, total[200]+total[400], "%v", total)
	require.NotZero(t, total[200])
	require.NotZero(t, total[400], "the fourth image is one too many")
	leases := 0
	for _, l := range w.leases {
		leases += len(l)
	}
	require.Equal(t, 3, leases)
	require.Less(t, w.serves, 1000, "an address is not asked for each time")
}

func TestTimeAndRestart(t *testing.T) {
	w := newWorld()
	var mu sync.Mutex
	now := time.Unix(1e9, 0)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s, srv := start(t, w, func(c *Config) { c.Now, c.Timeout = clock, 100*time.Second })
	get(t, srv, "/frisbee/getAddress?img=four.ndz")
	_, _, body := get(t, srv, "/frisbee/status")
	require.Contains(t, body, "timeLeft='100.0'")
	require.Equal(t, []string{"omf:four.ndz"}, w.leases["four.ndz"])

	// Another process finds the lease, with all of its time, and ends it.
	next, srv2 := start(t, w, func(c *Config) { c.Now, c.Timeout = clock, 100*time.Second })
	require.NoError(t, next.recover(t.Context()))
	_, _, body = get(t, srv2, "/frisbee/status")
	require.Contains(t, body, "timeLeft='100.0'")
	mu.Lock()
	now = now.Add(101 * time.Second)
	mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- next.Run(ctx) }()
	require.Eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.leases["four.ndz"]) == 0 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	_ = s
}

// TestPXE: the form of OMF 5, and what cannot be done.
func TestPXE(t *testing.T) {
	w := newWorld()
	w.nodes = append(w.nodes, events.NodeState{Name: "omf.nicta.node1", IP: "10.0.0.1"}, events.NodeState{Name: "omf.nicta.node2", IP: "10.0.0.2"})
	_, srv := start(t, w, nil)
	for _, c := range [][2]string{
		{"/pxe/setBootImageNS?ns=omf.nicta.node1,omf.nicta.node2", "<response status='OK'><action name='setBootImage' service='pxe'><nodes><node hex='0A000001' hrn='omf.nicta.node1' img='orbit-1.0.0' ip='10.0.0.1'/><node hex='0A000002' hrn='omf.nicta.node2' img='orbit-1.0.0' ip='10.0.0.2'/></nodes></action></response>"},
		{"/pxe/setBootImageNS?ns=n1-1&user=ann&imgName=omf-5.4", "<response status='OK'><action name='setBootImage' service='pxe'><nodes><node hex='0A120101' hrn='n1-1' img='omf-5.4' ip='10.18.1.1'/></nodes></action></response>"},
		{"/pxe/clearBootImageNS?ns=omf.nicta.node1", "<response status='OK'><action name='clearBootImage' service='pxe'><nodes/></action></response>"},
		{"/pxe/setBootImageNS?ns=omf.nicta.node9", "<ERROR>no such node</ERROR>"},
	} {
		status, kind, body := get(t, srv, c[0])
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, "text/xml", kind)
		require.Equal(t, c[1], body, c[0])
	}
	require.Equal(t, []string{"set omf.nicta.node1 orbit-1.0.0", "set omf.nicta.node2 orbit-1.0.0", "set n1-1 omf-5.4", "clear omf.nicta.node1 orbit-1.0.0"}, w.told)
	w.broken = "n1-2"
	status, _, body := get(t, srv, "/pxe/setBootImageAll")
	require.Equal(t, http.StatusInternalServerError, status)
	require.Contains(t, body, "n1-2: a file is in the way")
	w.noLinks = true
	status, _, body = get(t, srv, "/pxe/setBootImageAll")
	require.Equal(t, http.StatusNotImplemented, status)
	require.Contains(t, body, "this handler sets no boot links; tell it where they are")
	status, kind, body := get(t, srv, "/pxe")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "text/xml", kind)
	require.Contains(t, body, "<service name='setBootImageNS'>")
	require.Contains(t, body, "<arg name='ns' value='setDecl' isRequired='true'>")
}
