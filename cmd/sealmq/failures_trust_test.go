//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/seal"
)

// strangers have a certificate of another authority, or one that has expired.
func (f *failing) strangers() {
	set, err := ca.Setup(filepath.Join(f.dir, "other"), nil, ca.Options{})
	if err != nil {
		f.Fatal(err)
	}
	other, err := set.Authority.IssueFiles(ca.Request{Name: "stranger"}, "", false)
	if err != nil {
		f.Fatal(err)
	}
	foreign, err := tls.LoadX509KeyPair(other.CertFile, other.KeyFile)
	if err != nil {
		f.Fatal(err)
	}
	trusted, err := f.TLS("acme-01")
	if err != nil {
		f.Fatal(err)
	}
	for name, cert := range map[string]tls.Certificate{"another authority's": foreign, "an expired": f.expired()} {
		conf := trusted.Clone()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		c := f.httpClient(conf)
		for _, role := range []string{pipelineproc.Proxy, pipelineproc.Main} {
			if resp, err := c.Get(f.URL(role) + "/health"); err == nil {
				resp.Body.Close()
				f.Errorf("with %s certificate the %s answered %s", name, role, resp.Status)
			}
		}
		if conn, err := tls.Dial("tcp", f.Addr(pipelineproc.Broker), conf); err == nil {
			_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 the refusal comes after the handshake
			conn.Close()
			if err == nil {
				f.Errorf("with %s certificate the broker speaks", name)
			}
		}
	}
	f.until("the audit log has who was refused where", func() bool {
		_, body := f.get("/api/v1/audit?event_type=auth_denied")
		var page mainapi.AuditPage
		if err := json.Unmarshal(body, &page); err != nil {
			return false
		}
		seen := make(map[string]bool)
		for i := range page.Items {
			e := &page.Items[i]
			seen[fmt.Sprintf("%v %s: %v", e.Details["endpoint"], e.ClientID, e.Details["reason"])] = true
		}
		for _, role := range []string{pipelineproc.Proxy, pipelineproc.Main, pipelineproc.Broker} {
			if !seen[role+" acme-01: Client certificate has expired"] || !seen[role+" : Client certificate is of an unknown authority"] {
				return false
			}
		}
		return true
	})
}

// expired is a certificate of the authority that was good until an hour ago.
func (f *failing) expired() tls.Certificate {
	f.Helper()
	p := ca.In(f.data)
	issuer, err := tls.LoadX509KeyPair(p.Intermediate, p.IntermediateKey)
	if err != nil {
		f.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "acme-01"},
		NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}, issuer.Leaf, key.Public(), issuer.PrivateKey)
	if err != nil {
		f.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf, issuer.Leaf.Raw}, PrivateKey: key}
}

// move moves a file away and returns a function that brings it back.
func (f *failing) move(path string) (back func()) {
	f.Helper()
	if err := os.Rename(path, path+".away"); err != nil {
		f.Fatal(err)
	}
	return func() {
		f.Helper()
		if err := os.Rename(path+".away", path); err != nil {
			f.Fatal(err)
		}
	}
}

func (f *failing) authorityKeyAway() {
	back := []func(){f.move(ca.In(f.data).RootKey), f.move(ca.In(f.data).IntermediateKey)}
	f.restart(pipelineproc.Main)
	resp, err := f.admin.Post(f.URL(pipelineproc.Main)+"/api/v1/certificates", "application/json", strings.NewReader(`{"client_id":"nobody"}`))
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		f.Errorf("issuing without a key is answered %s", resp.Status)
	}
	f.accept("no-ca-key")
	f.delivered("no-ca-key")
	for _, b := range back {
		b()
	}
	f.restart(pipelineproc.Main)
}

func (f *failing) encryptionKeyAway() {
	key := filepath.Join(f.data, "pipeline", "records.key")
	if err := f.Stop(f.Context(), pipelineproc.Main); err != nil {
		f.Fatal(err)
	}
	back := f.move(key)
	if err := f.Start(f.Context(), pipelineproc.Main); err == nil || !strings.Contains(err.Error(), "records.key") {
		f.Errorf("without its key the main server starts, or does not say why not: %v", err)
	}
	back()
	if err := os.Chmod(key, 0o644); err != nil {
		f.Fatal(err)
	}
	if err := f.Start(f.Context(), pipelineproc.Main); err == nil || !strings.Contains(err.Error(), "records.key") {
		f.Errorf("with a key that others can read the main server starts, or does not say why not: %v", err)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		f.Fatal(err)
	}
	f.start(pipelineproc.Main)
	f.accept("key-is-back")
	f.delivered("key-is-back")
}

// otherEncryptionKey starts the main server with key files of another one.
func (f *failing) otherEncryptionKey() {
	f.accept("own-key")
	f.delivered("own-key")
	if err := f.Stop(f.Context(), pipelineproc.Main); err != nil {
		f.Fatal(err)
	}
	sealing, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		f.Fatal(err)
	}
	random := []byte(rand.Text() + rand.Text())[:32]
	text := []byte(base64.URLEncoding.EncodeToString(random))
	for name, other := range map[string][]byte{"records.key": text, "numbers.key": text, "ids.key": random, "sealing.key": sealing.PEM()} {
		key := filepath.Join(f.data, "pipeline", name)
		back := f.move(key)
		if err := os.WriteFile(key, other, 0o600); err != nil {
			f.Fatal(err)
		}
		err := f.Start(f.Context(), pipelineproc.Main)
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "restore") {
			f.Errorf("with another %s the main server starts, or does not say what to do: %v", name, err)
		}
		back()
	}
	f.accept("other-key")
	f.start(pipelineproc.Main)
	f.delivered("own-key", "other-key")
}

func (f *failing) listDamaged() {
	list := filepath.Join(f.data, "revoked.txt")
	write := func(text string) {
		f.Helper()
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	thief := f.client("thief")
	refused := func() bool {
		resp, err := thief.Post(f.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader("{}"))
		if err != nil {
			return true
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusForbidden
	}
	write("thief\n")
	f.until("the thief is refused", refused)
	write("thief\n-----BEGIN X509 CRL-----\n")
	f.until("the main server is degraded", func() bool { return f.health(pipelineproc.Main) == "degraded" })
	if !refused() {
		f.Error("a damaged list let a thief in")
	}
	f.accept("damaged-list")
	f.delivered("damaged-list")
	write("thief\n")
	f.until("the main server is healthy again", func() bool { return f.health(pipelineproc.Main) == "healthy" })
}
