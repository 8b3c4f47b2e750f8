package main

import (
	"log/slog"
	"path/filepath"

	"loadnode/bus/certificate"
	"loadnode/bus/embedded"
	"loadnode/cmd/omf/internal/config"
)

// tlsConfig says how the embedded bus proves itself.
type tlsConfig struct {
	on        bool
	cert, key string // files; empty: one of its own, kept in the state directory
	ca        string // PEM, for credentials; of one of its own: empty
	names     []string
}

// tlsConfig reads the settings. Whoever names a certificate wants it used.
func (a *app) tlsConfig(c *serverConfig) (tlsConfig, error) {
	t := tlsConfig{cert: a.get(config.KeyTLSCert), key: a.get(config.KeyTLSKey), names: list(a.get(config.KeyTLSNames))}
	when, err := a.oneOf(config.KeyTLS, "auto", "on", "off")
	if err != nil {
		return t, err
	}
	ca := a.get(config.KeyTLSCA)
	switch {
	case (t.cert == "") != (t.key == ""):
		return t, usagef("--tls-cert and --tls-key belong together")
	case t.cert != "" && when == "off":
		return t, usagef("--tls-cert and --tls off contradict each other")
	case ca != "" && t.cert == "" && !c.has(roleAuth):
		return t, usagef("--tls-ca is for --tls-cert, and for the role %s", roleAuth)
	}
	if ca != "" {
		if t.ca, err = certificate.ReadCA(ca); err != nil {
			return t, usagef("--tls-ca: %w", err)
		}
	}
	t.on = c.has(roleNATS) && (when == "on" || t.cert != "" || when == "auto" && !loopback(c.natsListen))
	return t, nil
}

// open gives the embedded bus its certificate; nil: it has none.
func (t tlsConfig) open(cfg serverConfig, log *slog.Logger) (*embedded.TLS, error) {
	switch {
	case !t.on || cfg.natsListen == embedded.InProcessOnly:
		return nil, nil
	case t.cert != "":
		f, err := certificate.OpenFiles(t.cert, t.key, log)
		if err != nil {
			return nil, usagef("%w", err)
		}
		if t.ca == "" {
			log.Warn("without --tls-ca credentials say nothing about whom to trust: nodes that boot trust nobody by themselves")
		}
		return &embedded.TLS{Config: f.TLS(), CA: t.ca}, nil
	}
	own, err := certificate.Open(certificate.Config{
		Dir: filepath.Join(cfg.state, "tls"), Names: append(certificate.Names(cfg.natsListen), t.names...), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return &embedded.TLS{Config: own.TLS(), CA: own.CA()}, nil
}

// busCA is what nodes have to trust: of the embedded bus, or as the service's
// own credential says.
func (s *server) busCA() string {
	switch {
	case s.nats != nil:
		return s.nats.CA()
	case s.cfg.credential != nil:
		return s.cfg.credential.CA
	}
	return ""
}
