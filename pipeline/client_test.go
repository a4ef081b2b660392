package pipeline_test

import (
	"strings"
	"testing"

	"github.com/sealmq/sealmq/pipeline"
)

func TestForeignClients(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	id := pipeline.ForeignClient("acme", a)
	if id != "acme@aaaaaaaaaaaaaaaa" || id == pipeline.ForeignClient("acme", b) || !pipeline.IsForeignClient(id) {
		t.Errorf("%q", id)
	}
	for _, own := range []string{"acme", "acme@example.org", "acme@AAAAAAAAAAAAAAAA", "acme@aaaaaaaaaaaaaaaa-1"} {
		if pipeline.IsForeignClient(own) {
			t.Errorf("%q looks foreign", own)
		}
	}
}
