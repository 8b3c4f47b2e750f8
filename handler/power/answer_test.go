package power

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"on", "Chassis Power is off", `{"power":"on","cycles":-7}`, "{", "", "\xff on"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, status bool) {
		state, err := parseAnswer(text, status)
		if err != nil {
			require.ErrorIs(t, err, ErrAnswer)
			require.Empty(t, state)
			return
		}
		require.Contains(t, []string{On, Off, Unknown}, state.Power)
		require.GreaterOrEqual(t, state.Cycles, -1)
	})
}
