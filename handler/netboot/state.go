package netboot

import (
	"sync"
	"time"

	"loadnode/events"
)

// key is a node of a testbed.
type key struct{ testbed, node string }

// boot is why a node gets the imaging system.
type boot struct {
	job     string
	attempt int
	since   time.Time // of the reboot.requested of the attempt
	up      bool      // pxe.up of the attempt was seen
}

// state is the projection of the log: the nodes that get the imaging system.
type state struct {
	mu    sync.Mutex
	stay  map[string]bool // open jobs whose nodes stay where they are after the work, by testbed and job
	boots map[key]boot
	ready bool // the log is read
}

func newState() *state { return &state{stay: map[string]bool{}, boots: map[key]boot{}} }

// take folds one fact. It returns the boot of the node that the fact is about,
// and whether a new one began.
func (s *state) take(a events.Address, at time.Time, d events.Data) (b boot, began bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Job == "" {
		return boot{}, false
	}
	k, job := key{a.Testbed, a.Node}, a.Testbed+"\x00"+a.Job
	b, held := s.boots[k]
	held = held && b.job == a.Job
	switch d := d.(type) {
	case events.JobAccepted:
		if d.Then == events.ThenStay {
			s.stay[job] = true
		}
	case events.JobFinished, events.JobRejected:
		delete(s.stay, job)
		for k, b := range s.boots {
			if k.testbed == a.Testbed && b.job == a.Job {
				delete(s.boots, k)
			}
		}
	case events.RebootRequested:
		if a.Node == "" {
			return boot{}, false
		}
		b = boot{job: a.Job, attempt: d.Attempt, since: at}
		s.boots[k] = b
		return b, true
	case events.PxeUp:
		if held {
			b.up = true
			s.boots[k] = b
			return b, false
		}
	case events.LoadDone, events.SaveDone:
		if held && s.stay[job] {
			delete(s.boots, k)
		}
	case events.ShutdownRequested, events.ShutdownDone, events.RebootDone, events.NodeFailed:
		if held {
			delete(s.boots, k)
		}
	}
	return boot{}, false
}

// of is the boot of a node; ok is false when it is to start from its disk.
func (s *state) of(k key) (b boot, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok = s.boots[k]
	return b, ok
}

// known reports whether the log is read.
func (s *state) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// caughtUp notes that it is, and returns the nodes that are being booted.
func (s *state) caughtUp() map[key]boot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
	out := map[key]boot{}
	for k, b := range s.boots {
		if !b.up {
			out[k] = b
		}
	}
	return out
}
