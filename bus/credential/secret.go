package credential

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"loadnode/bus"
	"loadnode/events"
)

const secretBytes = 32

// Secret is what the credentials derive from that are good until it changes.
type Secret struct{ key []byte }

// OpenSecret reads the secret from a file, or makes it at the first start. The
// file has mode 0600.
func OpenSecret(path string) (*Secret, error) {
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		key, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(key) != secretBytes {
			return nil, fmt.Errorf("secret: %s is damaged: want %d bytes in hexadecimal digits; without it, all credentials are to be handed out anew: remove it to do so", path, secretBytes)
		}
		return &Secret{key}, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("secret: %w", err)
	}
	s := &Secret{make([]byte, secretBytes)}
	rand.Read(s.key)
	if err := writeSecret(path, hex.EncodeToString(s.key)+"\n"); err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return s, nil
}

// writeSecret writes a file as a whole or not at all: half a secret would
// lock everybody out.
func writeSecret(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".auth-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// password derives the password of a user. The length before each part keeps
// ("a", "bc") and ("ab", "c") apart.
func (s *Secret) password(kind events.CredentialKind, testbed, node string) string {
	h := hmac.New(sha256.New, s.key)
	for _, part := range []string{"loadnode bus credential 1", string(kind), testbed, node} {
		fmt.Fprintf(h, "%d:%s;", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Credential is the one of an operator or a service (without testbed and
// node), or of a node or a resident.
func (s *Secret) Credential(kind events.CredentialKind, testbed, node string) events.Credential {
	u := User{Kind: kind, Testbed: testbed, Node: node}
	return events.Credential{User: u.Name(), Password: s.password(kind, testbed, node), Inbox: u.Inbox()}
}

// User is who connects.
type User struct {
	Kind          events.CredentialKind
	Testbed, Node string // of a node or resident
	Boot          string // id of the record, of a credential for one boot
}

// Name is the user's name on the bus: the kind, and for nodes and residents
// the escaped testbed and node, and the record of a boot.
func (u User) Name() string {
	switch {
	case u.Node == "":
		return string(u.Kind)
	case u.Boot == "":
		return string(u.Kind) + "." + events.Escape(u.Testbed) + "." + events.Escape(u.Node)
	}
	return string(u.Kind) + "." + events.Escape(u.Testbed) + "." + events.Escape(u.Node) + "." + u.Boot
}

// Inbox is the prefix for replies to the user.
func (u User) Inbox() string {
	switch u.Kind {
	case events.CredentialNode:
		return bus.NodeInbox(u.Testbed, u.Node)
	case events.CredentialResident:
		return bus.ResidentInbox(u.Testbed, u.Node)
	case events.CredentialOperator:
		return bus.OperatorInbox
	}
	return bus.ServiceInbox
}

// Permissions is what the user may do.
func (u User) Permissions() bus.Permissions {
	switch u.Kind {
	case events.CredentialNode:
		return bus.NodePermissions(u.Testbed, u.Node)
	case events.CredentialResident:
		return bus.ResidentPermissions(u.Testbed, u.Node)
	case events.CredentialOperator:
		return bus.OperatorPermissions()
	}
	return bus.ServicePermissions()
}

// maxUser bounds a user's name, in bytes.
const maxUser = 1024

// ParseUser is the inverse of Name.
func ParseUser(name string) (User, bool) {
	if len(name) > maxUser {
		return User{}, false
	}
	parts := strings.Split(name, ".")
	u := User{Kind: events.CredentialKind(parts[0])}
	switch u.Kind {
	case events.CredentialOperator, events.CredentialService:
		return u, len(parts) == 1
	case events.CredentialNode, events.CredentialResident:
	default:
		return User{}, false
	}
	switch {
	case len(parts) == 4 && u.Kind == events.CredentialNode:
		if u.Boot = parts[3]; len(u.Boot) != idLength || strings.Trim(u.Boot, "0123456789abcdef") != "" {
			return User{}, false
		}
	case len(parts) != 3:
		return User{}, false
	}
	var err1, err2 error
	u.Testbed, err1 = events.Unescape(parts[1])
	u.Node, err2 = events.Unescape(parts[2])
	if err1 != nil || err2 != nil || u.Testbed == "" || u.Node == "" {
		return User{}, false
	}
	return u, true
}
