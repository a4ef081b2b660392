package alert

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWebhook(t *testing.T) {
	key := []byte("a key")
	var calls []string
	answers := []int{503, 204}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if want := "sha256=" + Sign(key, r.Header.Get(TimeHeader), body); r.Header.Get(SignatureHeader) != want {
			t.Errorf("signature %q, want %q", r.Header.Get(SignatureHeader), want)
		}
		calls = append(calls, r.Method+" "+r.URL.String()+" "+r.Header.Get("Content-Type")+" "+string(body))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answers[min(len(calls), len(answers))-1])
	}))
	defer server.Close()
	c, err := Webhook(server.URL+"/hook?token=s3cret", key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	m := Message{Node: "n1", At: now, Open: 1, Firing: []Alert{{"DiskLow", "", Critical, "The disk is full.", now}}}
	if err := c.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	want := `POST /hook?token=s3cret application/json {"version":1,"node":"n1","at":"2030-05-01T12:00:00Z","open":1,"alerts":[{"name":"DiskLow","status":"firing","severity":"critical","text":"The disk is full.","since":"2030-05-01T12:00:00Z","runbook":"https://github.com/sealmq/sealmq/blob/main/docs/runbooks/DiskLow.md"}]}`
	if diff := cmp.Diff([]string{want, want}, calls); diff != "" {
		t.Errorf("a server that fails once (-want +got):\n%s", diff)
	}
	for status, tries := range map[int]int{302: 1, 400: 1, 404: 1, 429: 3, 500: 3} {
		calls, answers = nil, []int{status}
		err := c.Send(t.Context(), m)
		if err == nil || len(calls) != tries {
			t.Errorf("%d: %d tries, want %d, error %v", status, len(calls), tries, err)
		}
	}
	server.Close()
	if err := c.Send(t.Context(), m); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a server that is away: %v", err)
	}
}

func TestWebhookOfATest(t *testing.T) {
	b, err := (&Message{Node: "n1", Test: true}).json()
	if err != nil {
		t.Fatal(err)
	}
	var m jsonMessage
	if err := json.Unmarshal(b, &m); err != nil || !m.Test || m.Alerts == nil {
		t.Errorf("%s, %v", b, err)
	}
}

func TestCheckWebhook(t *testing.T) {
	for address, good := range map[string]bool{
		"https://alerts.example.org/x": true, "http://localhost:8080/x": true, "http://127.0.0.1/x": true, "http://[::1]:99/": true,
		"http://alerts.example.org/x": false, "http://127.0.0.1.example.org/": false, "ftp://localhost/": false, "alerts.example.org": false, "": false, "https://": false, "https://%zz/": false,
	} {
		if err := CheckWebhook(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}
