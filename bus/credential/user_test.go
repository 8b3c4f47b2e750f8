package credential_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus/credential"
)

// FuzzParseUser: a name that is taken is the name of that user, so that no two
// names mean one.
func FuzzParseUser(f *testing.F) {
	boot := strings.Repeat("0a", 16)
	for _, name := range []string{
		"", "operator", "service", "service.x", "node", "node.default.n1-1", "node.default.n1-1." + boot, "node.default._6e1-1",
		"resident.default.n1-1", "resident.default.n1-1." + boot, "node.default.>", "node..", "node.a.b.c", strings.Repeat("x", 2000),
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		u, ok := credential.ParseUser(name)
		if !ok {
			return
		}
		require.Equal(t, name, u.Name())
		require.False(t, strings.ContainsAny(u.Inbox(), "*> "))
	})
}
