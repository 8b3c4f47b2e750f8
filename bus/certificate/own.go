package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	authorityFile = "authority.pem" // certificate and key
	serverFile    = "server.pem"

	authorityLife = 20 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	// renewal is how long before its end the server's certificate is made anew.
	renewal = serverLife / 3
	// early is how long before it was made a certificate is good: clocks differ.
	early = 24 * time.Hour
)

// Own is a certificate that is made, kept and renewed here.
type Own struct {
	dir   string
	names []string
	now   func() time.Time
	log   *slog.Logger

	authority tls.Certificate
	ca        string // PEM

	mu     sync.Mutex
	server tls.Certificate
}

// Config says what to make.
type Config struct {
	Dir    string           // made if missing; files in it have mode 0600
	Names  []string         // addresses and names that clients use, see Names
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: silent
}

// Open reads what was made before, and makes what is missing, ends soon, or
// lacks one of the names. A new authority voids the trust of all clients: one is
// only made where there is none, or where it ends within the life of a server's
// certificate.
func Open(cfg Config) (*Own, error) {
	o := &Own{dir: cfg.Dir, names: slices.Clone(cfg.Names), now: cfg.Now, log: cfg.Logger}
	if o.now == nil {
		o.now = time.Now
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	var err error
	if o.authority, err = read(filepath.Join(o.dir, authorityFile)); err != nil {
		return nil, err
	}
	if leaf := o.authority.Leaf; leaf == nil || leaf.NotAfter.Before(o.now().Add(serverLife)) {
		if leaf != nil {
			o.log.Warn("the authority of the bus's certificate ends and is made anew: all credentials are to be handed out again", "end", leaf.NotAfter)
		}
		if err := o.newAuthority(); err != nil {
			return nil, err
		}
	}
	o.ca = encode("CERTIFICATE", o.authority.Certificate[0])
	if o.server, err = read(filepath.Join(o.dir, serverFile)); err != nil {
		return nil, err
	}
	if o.stale() {
		if err := o.renew(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// CA is the certificate of the authority, PEM: what clients have to trust.
func (o *Own) CA() string { return o.ca }

// TLS is the configuration of a server. It renews the certificate when a client
// comes: in time before its end, and when the address that the client came to
// is not in it yet.
func (o *Own) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: o.certificate}
}

func (o *Own) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if hello.Conn != nil {
		if a, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok && !slices.Contains(o.names, a.IP.String()) {
			o.names = append(o.names, a.IP.String())
		}
	}
	if o.stale() {
		if err := o.renew(); err != nil {
			o.log.Error("the certificate of the bus is not renewed", "end", o.server.Leaf.NotAfter, "err", err)
		}
	}
	c := o.server
	return &c, nil
}

// stale reports whether another certificate is needed.
func (o *Own) stale() bool {
	leaf := o.server.Leaf
	if leaf == nil || o.now().After(leaf.NotAfter.Add(-renewal)) || o.now().Before(leaf.NotBefore) || leaf.CheckSignatureFrom(o.authority.Leaf) != nil {
		return true
	}
	return slices.ContainsFunc(o.names, func(name string) bool { return leaf.VerifyHostname(name) != nil })
}

// renew makes the server's certificate.
func (o *Own) renew() error {
	t := o.template("loadnode bus", serverLife)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range o.names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		t.DNSNames = append(t.DNSNames, name)
	}
	c, err := o.sign(t, o.authority, serverFile)
	if err != nil {
		return err
	}
	o.server = c
	o.log.Info("certificate of the bus made", "names", strings.Join(o.names, " "), "end", c.Leaf.NotAfter)
	return nil
}

func (o *Own) newAuthority() error {
	t := o.template("loadnode authority of the bus", authorityLife)
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign
	c, err := o.sign(t, tls.Certificate{}, authorityFile)
	if err != nil {
		return err
	}
	o.authority = c
	return nil
}

func (o *Own) template(name string, life time.Duration) *x509.Certificate {
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] &= 0x7f
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: o.now().Add(-early), NotAfter: o.now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// sign makes a key and its certificate, by an authority or by itself, and keeps
// both in one file, whole or not at all.
func (o *Own) sign(t *x509.Certificate, by tls.Certificate, file string) (tls.Certificate, error) {
	fail := func(err error) (tls.Certificate, error) {
		return tls.Certificate{}, fmt.Errorf("certificate %s: %w", filepath.Join(o.dir, file), err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	issuer, signer := t, any(key)
	if by.Leaf != nil {
		issuer, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, key.Public(), signer)
	if err != nil {
		return fail(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fail(err)
	}
	text := []byte(encode("CERTIFICATE", der) + encode("PRIVATE KEY", secret))
	c, err := tls.X509KeyPair(text, text)
	if err != nil {
		return fail(err)
	}
	if err := write(filepath.Join(o.dir, file), text); err != nil {
		return fail(err)
	}
	return c, nil
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func write(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pem-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// read reads a certificate with its key; there may be none.
func read(path string) (tls.Certificate, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return tls.Certificate{}, nil
	case err != nil:
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	c, err := tls.X509KeyPair(bytes.TrimSpace(text), text)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s is damaged: %w; remove it and another is made (without %s all credentials are to be handed out again)", path, err, authorityFile)
	}
	return c, nil
}
