package compat

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"loadnode/bus"
	"loadnode/events"
)

// Defaults of Config, those of OMF (§b.2).
const (
	DefaultTimeout    = time.Hour
	DefaultMaxDaemons = 10
	DefaultImage      = "baseline.ndz"
	DefaultDisk       = "/dev/hda"
	DefaultPXEImage   = "orbit-1.0.0"
)

// askTime bounds what one request may take on the bus.
const askTime = 30 * time.Second

// Config says what is answered. Testbed and Ask are required.
type Config struct {
	// Testbed is what requests mean that name no domain, or one that Known does not know: OMF's fallback.
	Testbed string
	Known   func(testbed string) bool // nil: only Testbed
	// Ask sends a request on the bus, as (*bus.Conn).Request does.
	Ask func(ctx context.Context, subject string, req, resp any) error
	// Base is the URL by which these services are reached, for getConfig.
	Base string
	// Version5 answers every request as OMF 5 does.
	Version5 bool

	Timeout    time.Duration // of a daemon after the last getAddress; 0: an hour
	MaxDaemons int           // of these services, of frisbee and saveimage each; 0: 10
	Bandwidth  int64         // bit/s, shown where no session says its own
	Group      string        // multicast address, shown where no session runs
	Image      string        // the default image
	Disk       string        // the default disk
	PXEImage   string        // of nodes whose inventory names none
	// SaveTimeout is how long an image that is saved may take in all, from its address on; 0: 30 min.
	SaveTimeout time.Duration
	SaveOwner   string // of saved images, where no user is named; empty: nobody
	Now         func() time.Time
}

// Service answers the requests.
type Service struct {
	cfg     Config
	groups  []group
	daemons daemons
	savers  savers
	changed chan struct{}
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Testbed == "" || cfg.Ask == nil {
		return nil, errors.New("compat: Testbed and Ask are required")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxDaemons == 0 {
		cfg.MaxDaemons = DefaultMaxDaemons
	}
	if cfg.SaveTimeout == 0 {
		cfg.SaveTimeout = DefaultSaveTimeout
	}
	for _, s := range []struct {
		of *string
		or string
	}{{&cfg.Image, DefaultImage}, {&cfg.Disk, DefaultDisk}, {&cfg.PXEImage, DefaultPXEImage}, {&cfg.SaveOwner, DefaultSaveOwner}} {
		if *s.of == "" {
			*s.of = s.or
		}
	}
	if cfg.Known == nil {
		cfg.Known = func(tb string) bool { return tb == cfg.Testbed }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, changed: make(chan struct{}, 1), daemons: daemons{all: map[key]*daemon{}}, savers: savers{all: map[key]*saver{}}}
	s.groups = []group{s.cmc(), s.inventory(), s.frisbee(), s.pxe(), s.saveimage()}
	return s, nil
}

// Register adds the routes.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", s.describeAll)
	for _, g := range s.groups {
		mux.HandleFunc("/"+g.name, s.serve(g))
		mux.HandleFunc("/"+g.name+"/", s.serve(g))
	}
}

// request is one call with its parameters.
type request struct {
	ctx     context.Context
	s       *Service
	get     func(name string) string
	testbed string
	v5      bool
}

// reply is an answer; the zero kind is text.
type reply struct {
	xml  bool
	body string
}

func text(body string) (reply, error) { return reply{body: body}, nil }
func xml(body string) (reply, error)  { return reply{xml: true, body: body}, nil }

// call is one service of a group.
type call struct {
	name, info string
	args       []arg
	answer     func(r *request) (reply, error)
}

// arg is a parameter of a call.
type arg struct {
	name, value, info string
	required          bool
}

type group struct {
	name, info string
	calls      []call
}

// serve answers the calls of a group. A path below it that is no call gets the description, as in the original.
func (s *Service) serve(g group) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead && req.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, HEAD, POST")
			fail(w, http.StatusMethodNotAllowed, "use GET")
			return
		}
		name := strings.Trim(strings.TrimPrefix(req.URL.Path, "/"+g.name), "/")
		for _, c := range g.calls {
			if c.name == name {
				s.run(w, req, c)
				return
			}
		}
		send(w, "text/xml", describe(g))
	}
}

func (s *Service) run(w http.ResponseWriter, req *http.Request, c call) {
	req.Body = http.MaxBytesReader(w, req.Body, 64<<10)
	if err := req.ParseForm(); err != nil {
		fail(w, http.StatusBadRequest, "the parameters cannot be read: "+err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), askTime)
	defer cancel()
	r := &request{ctx: ctx, s: s, get: req.Form.Get, testbed: s.cfg.Testbed, v5: s.cfg.Version5 || req.Form.Has("user") || req.Form.Has("hrn")}
	if d := r.get("domain"); d != "" && s.cfg.Known(d) {
		r.testbed = d
	}
	for _, a := range c.args {
		if a.required && r.get(a.name) == "" {
			fail(w, http.StatusBadRequest, "Missing parameter '"+a.name+"'")
			return
		}
	}
	out, err := c.answer(r)
	var refusal *refusal
	switch {
	case errors.As(err, &refusal) && r.v5 && !refusal.hard:
		send(w, "text/xml", "<ERROR>"+escape(refusal.text)+"</ERROR>")
	case errors.As(err, &refusal):
		fail(w, refusal.status, refusal.text)
	case err != nil:
		fail(w, statusOf(err), said(err))
	case out.xml:
		send(w, "text/xml", out.body)
	default:
		send(w, "text", out.body)
	}
}

// refusal is an answer that is no: with its status in OMF 4, as an ERROR element with status 200 in OMF 5 unless it is
// hard.
type refusal struct {
	status int
	text   string
	hard   bool
}

func (r *refusal) Error() string { return r.text }

// statusOf is the HTTP status of an error from the bus.
func statusOf(err error) int {
	var e *events.Error
	switch {
	case errors.Is(err, bus.ErrNoResponders):
		return http.StatusServiceUnavailable
	case !errors.As(err, &e):
		return http.StatusInternalServerError
	}
	switch e.Code {
	case events.CodeBadRequest, events.CodeNode, events.CodeImage, events.CodeTestbed, events.CodeNotFound:
		return http.StatusBadRequest
	case events.CodeLeased, events.CodeProtected, events.CodeBusy:
		return http.StatusConflict
	case events.CodeUnavailable:
		return http.StatusServiceUnavailable
	case events.CodeUnsupported:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// said is an error with what to do about it.
func said(err error) string {
	var e *events.Error
	if errors.As(err, &e) && e.Hint != "" {
		return err.Error() + "; " + e.Hint
	}
	return err.Error()
}
