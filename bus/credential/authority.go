package credential

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

var (
	// ErrWrong is returned for a name and a password that belong to nobody.
	ErrWrong = errors.New("wrong credential")
	// ErrRevoked is returned for the credential of a boot that is over.
	ErrRevoked = errors.New("the credential is revoked")
	// ErrExpired is returned for the credential of a boot that was not used in
	// time.
	ErrExpired = errors.New("the credential was not used in time")
	// ErrNotReady is returned while the records of boots cannot be read.
	ErrNotReady = errors.New("credentials of boots cannot be checked at the moment")
)

// checkTime bounds one check. It must be shorter than what servers give a
// client to be known.
const checkTime = 4 * time.Second

// Authority decides who a connection is. It may be asked before the records
// of boots can be read: then it waits a moment for them.
type Authority struct {
	secret *Secret
	set    chan struct{} // closed with the first Use
	once   sync.Once

	mu     sync.Mutex
	grants *Grants
}

// NewAuthority makes one that knows no boots yet.
func NewAuthority(secret *Secret) *Authority {
	return &Authority{secret: secret, set: make(chan struct{})}
}

// Use gives it the records of boots.
func (a *Authority) Use(g *Grants) {
	a.mu.Lock()
	a.grants = g
	a.mu.Unlock()
	a.once.Do(func() { close(a.set) })
}

// Secret is what the lasting credentials derive from.
func (a *Authority) Secret() *Secret { return a.secret }

// Check finds out who has this name and password. from is the address that the
// connection comes from, zero for one inside the process. The errors are
// ErrWrong, ErrRevoked, ErrExpired and ErrNotReady.
func (a *Authority) Check(ctx context.Context, name, password string, from netip.Addr) (User, error) {
	u, ok := ParseUser(name)
	if !ok || password == "" {
		return User{}, ErrWrong
	}
	if u.Boot == "" {
		if !hmac.Equal([]byte(password), []byte(a.secret.password(u.Kind, u.Testbed, u.Node))) {
			return User{}, ErrWrong
		}
		return u, nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	select {
	case <-a.set:
	case <-ctx.Done():
		return User{}, fmt.Errorf("%w: %w", ErrNotReady, ctx.Err())
	}
	a.mu.Lock()
	g := a.grants
	a.mu.Unlock()
	return u, g.use(ctx, u, password, from)
}
