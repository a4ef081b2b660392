package pipeline_test

import (
	"testing"

	"github.com/sealmq/sealmq/pipeline"
)

func TestCheckMainAddress(t *testing.T) {
	for address, good := range map[string]bool{
		"https://main:8000": true, "https://main": true, "https://[::1]:8000": true,
		"": false, "main:8000": false, "http://main:8000": false, "https://main:8000/": false, "https://main:8000/api": false, "https://:8000": false,
		"https://main:": false, "https://main:0": false, "https://main:65536": false, "https://user@main:8000": false, "https://main:8000?a": false, "https://main:8000#a": false,
	} {
		if err := pipeline.CheckMainAddress(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}
