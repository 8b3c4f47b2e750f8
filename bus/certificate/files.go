package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// maxPEM bounds a file of certificates, in bytes.
const maxPEM = 48 << 10

// Files are a certificate and its key that others make and renew.
type Files struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	current tls.Certificate
	changed time.Time // of the certificate's file
}

// OpenFiles reads a certificate (PEM, with what leads to its authority) and its
// key. When the file of the certificate changes, both are read again for the
// next client; what cannot be read then is logged, and the old ones stay.
func OpenFiles(cert, key string, log *slog.Logger) (*Files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Files{cert: cert, key: key, log: log}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Files) load() error {
	st, err := os.Stat(f.cert)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
	}
	f.current, f.changed = c, st.ModTime()
	return nil
}

// TLS is the configuration of a server.
func (f *Files) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		st, err := os.Stat(f.cert)
		if err != nil || !st.ModTime().Equal(f.changed) {
			if err := f.load(); err != nil {
				f.log.Error("the changed certificate of the bus is not used", "err", err)
			}
		}
		c := f.current
		return &c, nil
	}}
}

// ReadCA reads the certificates of an authority, PEM, for credentials.
func ReadCA(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("CA: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	switch {
	case err != nil:
	case len(text) > maxPEM:
		err = fmt.Errorf("more than %d bytes", maxPEM)
	case !x509.NewCertPool().AppendCertsFromPEM(text):
		err = errors.New("no certificate in PEM")
	}
	if err != nil {
		return "", fmt.Errorf("CA %s: %w", path, err)
	}
	return string(text), nil
}
