package ingestgateway_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign(name, nil, nil)
	return a
}

func (a *authority) sign(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if parent == nil {
		parent, signer = tmpl, key
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// files writes a certificate for name and its key, and gives their paths.
func (a *authority) files(name string) (certFile, keyFile string) {
	cert, key := a.sign(name, a.cert, a.key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", "CERTIFICATE", cert.Raw), a.write(name+".key", "EC PRIVATE KEY", der)
}

func (a *authority) write(file, kind string, der []byte) string {
	path := filepath.Join(a.dir, file)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// A client certificate is a gateway: its common name decides for which gateway and machines it may send.
func TestMutualTLS(t *testing.T) {
	ours, foreign := newAuthority(t, "ours"), newAuthority(t, "foreign")
	g := start(t, func(c *ingestgateway.Config) {
		c.Auth.Gateways = []ingestgateway.Gateway{{GatewayID: "gw-1", Equipment: []string{"press-*"}}, {GatewayID: "gw-2", Equipment: []string{"mill-*"}}}
		c.GRPC.TLS.CertFile, c.GRPC.TLS.KeyFile = ours.files("server")
		c.GRPC.TLS.ClientCAFile = ours.write("ca.crt", "CERTIFICATE", ours.cert.Raw)
	})
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	for _, c := range []struct {
		name   string
		signer *authority
		client string
		code   codes.Code
		status ingestv1.FrameStatus
	}{
		{"the gateway itself", ours, "gw-1", codes.OK, ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED},
		{"another gateway", ours, "gw-2", codes.OK, ingestv1.FrameStatus_FRAME_STATUS_FORBIDDEN},
		{"a name that is not listed", ours, "gw-3", codes.Unauthenticated, 0},
		{"a certificate of somebody else", foreign, "gw-1", codes.Unavailable, 0},
		{"no certificate", nil, "", codes.Unavailable, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
			if c.signer != nil {
				cert, err := tls.LoadX509KeyPair(c.signer.files(c.client))
				if err != nil {
					t.Fatal(err)
				}
				cfg.Certificates = []tls.Certificate{cert}
			}
			conn, err := grpc.NewClient(g.svc.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			resp, err := ingestv1.NewIngestServiceClient(conn).Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: frames(1)})
			if status.Code(err) != c.code {
				t.Fatalf("%v, want %v", err, c.code)
			}
			if err == nil && resp.Results[0].Status != c.status {
				t.Fatalf("%v", resp)
			}
		})
	}
	// Without TLS nobody gets in at all.
	if _, err := g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: frames(1)}); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
}

// The same over HTTP.
func TestMutualTLSOverHTTP(t *testing.T) {
	ours := newAuthority(t, "ours")
	g := start(t, func(c *ingestgateway.Config) {
		c.Auth.Gateways = []ingestgateway.Gateway{{GatewayID: "gw-1", Equipment: []string{"press-*"}}, {GatewayID: "gw-2", Equipment: []string{"mill-*"}}}
		c.HTTP.TLS.CertFile, c.HTTP.TLS.KeyFile = ours.files("server")
		c.HTTP.TLS.ClientCAFile = ours.write("ca.crt", "CERTIFICATE", ours.cert.Raw)
	})
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	for name, want := range map[string]int{"gw-1": http.StatusOK, "gw-2": http.StatusForbidden, "gw-3": http.StatusUnauthorized, "": 0} {
		cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
		if name != "" {
			cert, err := tls.LoadX509KeyPair(ours.files(name))
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{cert}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}, Timeout: 10 * time.Second}
		got := 0
		if resp, err := client.Post("https://"+g.svc.HTTPAddr()+"/v1/frames", protobufType, bytes.NewReader(encode(t, goodFrame(1)))); err == nil {
			_ = resp.Body.Close()
			got = resp.StatusCode
		}
		client.CloseIdleConnections()
		if got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}
