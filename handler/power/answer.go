package power

import (
	"encoding/json"
	"fmt"
	"strings"
)

// settle checks a state that came from outside.
func settle(s *State) error {
	switch s.Power {
	case On, Off, Unknown:
	case "":
		s.Power = Unknown
	default:
		return fmt.Errorf("%w: power %q; want on, off or unknown", ErrAnswer, clip(s.Power))
	}
	if s.Cycles < 0 {
		s.Cycles = -1
	}
	if len(s.Boot) > 256 || len(s.LastEffect) > 1024 {
		return fmt.Errorf("%w: boot id of %d and effect of %d bytes", ErrAnswer, len(s.Boot), len(s.LastEffect))
	}
	return nil
}

// parseAnswer reads what a script printed: a JSON object with the fields of
// State, or — for status — words of which one is on, off or unknown, such as
// "on", "POWEROFF" or "Chassis Power is on". Contradicting words are an error;
// so is a status without any.
func parseAnswer(text string, status bool) (State, error) {
	text = strings.TrimSpace(text)
	state := State{Cycles: -1}
	if strings.HasPrefix(text, "{") {
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			return State{}, fmt.Errorf("%w: it printed %s: %w", ErrAnswer, quote(text), err)
		}
		if status && state.Power == "" {
			return State{}, fmt.Errorf("%w: it printed %s, which has no \"power\"", ErrAnswer, quote(text))
		}
		if err := settle(&state); err != nil {
			return State{}, err
		}
		return state, nil
	}
	state.Power = Unknown
	if !status {
		return state, nil // "switching on …" is talk, not an observation
	}
	found := ""
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	}) {
		switch word = strings.TrimPrefix(word, "power"); word {
		case On, Off, Unknown:
			if found != "" && found != word {
				return State{}, fmt.Errorf("%w: it printed %s, both %s and %s", ErrAnswer, quote(text), found, word)
			}
			found = word
		}
	}
	if found == "" {
		return State{}, fmt.Errorf("%w: it printed %s; want on, off, unknown or {\"power\":\"on\"}", ErrAnswer, quote(text))
	}
	state.Power = found
	return state, nil
}

func quote(text string) string {
	if text == "" {
		return "nothing"
	}
	return fmt.Sprintf("%q", clip(text))
}

func clip(text string) string {
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
