package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`"1m30s"`: 90 * time.Second, `800`: 800 * time.Second, `0.25`: 250 * time.Millisecond, `0`: 0, `"0s"`: 0, `"0"`: 0, `1e3`: 1000 * time.Second, `null`: 0,
	} {
		var d events.Duration
		require.NoError(t, json.Unmarshal([]byte(text), &d), text)
		require.Equal(t, want, time.Duration(d), text)
	}
	for _, text := range []string{`-1`, `"-1s"`, `1e300`, `3.2e9`, `"x"`, `"1"`, `{}`, `[1]`, `true`} {
		var d events.Duration
		require.ErrorContains(t, json.Unmarshal([]byte(text), &d), "duration", text)
	}
	require.Equal(t, "2m0s", events.DefaultTTL.String())
}

func TestDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := events.Duration(rapid.Int64Min(0).Draw(t, "d"))
		text, err := json.Marshal(d)
		require.NoError(t, err)
		var back events.Duration
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, d, back)
	})
}

func FuzzDuration(f *testing.F) {
	f.Add([]byte(`"1h"`))
	f.Add([]byte(`12.5`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d events.Duration
		if err := d.UnmarshalJSON(text); err == nil && d < 0 {
			t.Fatalf("%s is negative: %s", text, d)
		}
	})
}

func TestAsError(t *testing.T) {
	require.Nil(t, events.AsError(nil))
	leased := &events.Error{Code: events.CodeLeased, Message: "held", Job: "j"}
	e := events.AsError(fmt.Errorf("load: %w", leased))
	require.Equal(t, events.Error{Code: events.CodeLeased, Message: "load: held", Job: "j"}, *e)
	require.Equal(t, "held", leased.Message, "the original is left alone")
	require.Equal(t, events.Error{Code: events.CodeInternal, Message: "other"}, *events.AsError(errors.New("other")))
}
