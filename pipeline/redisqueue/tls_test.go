package redisqueue_test

import (
	"crypto/tls"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/redis"
	"github.com/sealmq/sealmq/internal/testing/server"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/pipeline"
)

// TestTLS: both sides show certificates, and nothing goes to a server of another authority.
func TestTLS(t *testing.T) {
	authority, dir := testca.New(t), t.TempDir()
	cert, key := testca.WriteLeaf(t, dir, "server", authority.ServerLeaf())
	roots := filepath.Join(dir, "ca.crt")
	testca.WriteFile(t, roots, authority.RootPEM())
	port, err := server.Port()
	if err != nil {
		t.Fatal(err)
	}
	s := redis.Run(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", roots)
	cfg := config(s)
	cfg.Addr = "localhost:" + strconv.Itoa(port)
	own := []tls.Certificate{authority.Leaf("worker", sealmq.RoleWorker)}
	for _, c := range []struct {
		name string
		tls  *tls.Config
		want pipeline.Outcome
	}{
		{"both certificates", &tls.Config{RootCAs: authority.Pool(), Certificates: own}, pipeline.Stored},
		{"no certificate of our own", &tls.Config{RootCAs: authority.Pool()}, 0},
		{"another authority", &tls.Config{RootCAs: testca.New(t).Pool(), Certificates: own}, 0},
		{"no TLS", nil, 0},
	} {
		cfg.TLS = c.tls
		q := open(t, cfg)
		switch r := outcome(t, q, "m"); {
		case c.want != 0 && r.Outcome != c.want:
			t.Errorf("%s: %+v", c.name, r)
		case c.want == 0 && (r.Outcome == pipeline.Stored || r.Outcome == pipeline.Duplicate || sealmq.CodeOf(r.Err) != sealmq.Unavailable):
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}
