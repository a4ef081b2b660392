package mainserver

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestPatternsHaveWords: nobody must read a regular expression to learn what was wrong.
func TestPatternsHaveWords(t *testing.T) {
	text, err := os.ReadFile("../../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`pattern: *(?:"([^"]*)"|'([^']*)')`).FindAllStringSubmatch(string(text), -1)
	if len(found) < 10 {
		t.Fatalf("only %d patterns were found", len(found))
	}
	for _, m := range found {
		pattern := m[1] + m[2]
		if words := wordsOf(pattern); strings.Contains(words, pattern) {
			t.Errorf("%s has no words", pattern)
		}
	}
}
