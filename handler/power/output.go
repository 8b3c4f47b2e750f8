package power

import "strings"

// head keeps the first bytes that are written to it.
type head struct {
	text []byte
	most int
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	room := h.most - len(h.text)
	if len(p) > room {
		h.over = true
		h.text = append(h.text, p[:room]...)
		return len(p), nil
	}
	h.text = append(h.text, p...)
	return len(p), nil
}

// tail keeps the last bytes that are written to it.
type tail struct {
	text []byte
	most int
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > t.most {
		p = p[len(p)-t.most:]
	}
	t.text = append(t.text, p...)
	if over := len(t.text) - t.most; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return n, nil
}

// lines is the last few lines, joined by " / ", for an error in one line.
func (t *tail) lines() string {
	var all []string
	for line := range strings.SplitSeq(strings.ToValidUTF8(string(t.text), "?"), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	if len(all) > errLines {
		all = all[len(all)-errLines:]
	}
	return strings.Join(all, " / ")
}
