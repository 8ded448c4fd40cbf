package httpserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// TLS of a listener, HTTP's or another: 1.3, nothing older.
type TLS struct {
	CertFile     string `mapstructure:"cert_file" doc:"PEM file with the server's certificate; empty: no TLS."`
	KeyFile      string `mapstructure:"key_file" doc:"PEM file with the server's key."`
	ClientCAFile string `mapstructure:"client_ca_file" doc:"PEM file with the authorities of client certificates. Given: every client needs one, also for health and metrics; at the ingest-gateway its common name is its gateway_id."`
}

// Enabled tells whether the listener speaks TLS.
func (t TLS) Enabled() bool { return t.CertFile != "" }

// Validate names the first field that is wrong.
func (t TLS) Validate() error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("key_file: give cert_file and key_file, or neither")
	}
	if t.ClientCAFile != "" && t.CertFile == "" {
		return errors.New("client_ca_file: needs cert_file and key_file")
	}
	return nil
}

// ServerConfig reads the files.
func (t TLS) ServerConfig() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file: %w", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
	if t.ClientCAFile != "" {
		pem, err := os.ReadFile(t.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.client_ca_file: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.client_ca_file: no certificate in %s", t.ClientCAFile)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// ClientName is the common name of the client's verified certificate, "" when it has none.
func ClientName(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return ""
	}
	return r.TLS.VerifiedChains[0][0].Subject.CommonName
}
