package events

// Leased says that a job holds nodes: all that it asked for, or the fact is
// not written.
type Leased struct {
	Job   string   `json:"job"`
	Nodes []string `json:"nodes"`
}

// Released says that nodes are free again.
type Released struct {
	Job   string   `json:"job"`
	Nodes []string `json:"nodes"`
	By    string   `json:"by,omitempty"` // who did it by hand
}

// Protected says that nodes refuse every job from now on.
type Protected struct {
	Nodes  []string `json:"nodes"`
	By     string   `json:"by,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// Unprotected takes a protection back.
type Unprotected struct {
	Nodes []string `json:"nodes"`
	By    string   `json:"by,omitempty"`
}

// Kind implements Data.
func (Leased) Kind() Kind { return KindLeased }

// Kind implements Data.
func (Released) Kind() Kind { return KindReleased }

// Kind implements Data.
func (Protected) Kind() Kind { return KindProtected }

// Kind implements Data.
func (Unprotected) Kind() Kind { return KindUnprotected }
