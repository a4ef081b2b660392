package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
)

// TestVerifyOfAnotherAuthority: the API accepts a certificate of each authority in the file of
// accepted authorities, as the listeners and "sealmq cert verify" do, and as that file is at the
// time.
func TestVerifyOfAnotherAuthority(t *testing.T) {
	w := newNodeWorld(t)
	other, err := ca.Setup(filepath.Join(w.dir, "other"), nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := other.Authority.Issue(ca.Request{Name: "acme-01"})
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(map[string]string{"certificate": string(issued.CertPEM)})
	if err != nil {
		t.Fatal(err)
	}
	admin := w.client(ca.AdminName)
	verify := func(want bool) {
		t.Helper()
		resp, err := admin.Post(w.URL(pipelineproc.Main)+"/api/v1/certificates/verify", "application/json", bytes.NewReader(request))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		var found mainapi.CertificateCheck
		if err == nil {
			err = json.Unmarshal(body, &found)
		}
		if err != nil || resp.StatusCode != http.StatusOK || found.SignatureValid != want || found.Valid != want {
			t.Errorf("%d %s %v, want %v", resp.StatusCode, body, err, want)
		}
	}
	verify(false)
	file, err := os.ReadFile(ca.In(w.data).CA)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(other.Authority.Paths().Root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca.In(w.data).CA, append(file, root...), 0o600); err != nil {
		t.Fatal(err)
	}
	verify(true)
}
