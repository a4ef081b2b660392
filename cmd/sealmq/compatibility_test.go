package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
)

// TestCompatibilityPage asks a running node for every path in docs/compatibility.md: those of
// the tables are there, and those that it says are not there are not. That the tests that it
// names exist is checked with the other pages.
func TestCompatibilityPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	w := newNodeWorld(t)
	c := w.client("")
	missing := func(server, method, path string) bool {
		req, err := http.NewRequestWithContext(t.Context(), method, server+strings.NewReplacer("{", "", "}", "").Replace(path), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusMethodNotAllowed
	}
	row := regexp.MustCompile("(?m)^\\| `([A-Z]+) (/[^`]*)` \\| (.*?) \\|")
	alias := regexp.MustCompile("`(/[^`]*)`")
	for title, server := range map[string]string{"Proxy": w.URL(pipelineproc.Proxy), "Main server": w.URL(pipelineproc.Main), "Worker": "http://" + w.Addr(pipelineproc.Worker)} {
		_, section, _ := strings.Cut(string(page), "\n## "+title)
		section, _, _ = strings.Cut(section, "\n## ")
		rows := row.FindAllStringSubmatch(section, -1)
		if len(rows) < 3 {
			t.Fatalf("%s has %d routes", title, len(rows))
		}
		for _, r := range rows {
			paths := []string{r[2]}
			for _, a := range alias.FindAllStringSubmatch(r[3], -1) {
				paths = append(paths, a[1])
			}
			for _, p := range paths {
				if missing(server, r[1], p) {
					t.Errorf("%s: %s %s is not there", title, r[1], p)
				}
			}
		}
	}
	_, section, _ := strings.Cut(string(page), "\n## What is not there")
	absent := regexp.MustCompile("`([A-Z]+) (/[^`]*)`").FindAllStringSubmatch(section, -1)
	for _, r := range absent {
		for _, server := range []string{w.URL(pipelineproc.Main), w.URL(pipelineproc.Proxy)} {
			if !missing(server, r[1], r[2]) {
				t.Errorf("%s %s is there: move it to the tables of docs/compatibility.md", r[1], r[2])
			}
		}
	}
	if len(absent) == 0 {
		t.Error("the page names nothing that is not there")
	}
}

// TestPagesOfTheWorker: health in the design documents' form, and metrics at both paths.
func TestPagesOfTheWorker(t *testing.T) {
	w := newNodeWorld(t)
	get := func(path string) (int, string) {
		answer, err := http.Get("http://" + w.Addr(pipelineproc.Worker) + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(b)
	}
	var h struct {
		Status   string
		WorkerID string `json:"worker_id"`
		Checks   map[string]string
	}
	for until := time.Now().Add(time.Minute); h.Status != "healthy"; { // once it has reached the queue
		status, body := get("/health")
		if err := json.Unmarshal([]byte(body), &h); err != nil || h.WorkerID == "" || (status == http.StatusOK) != (h.Status == "healthy") || time.Now().After(until) {
			t.Fatalf("/health: %d %s", status, body)
		}
	}
	if h.Checks["main_server"] != "healthy" || h.Checks["queue"] != "healthy" {
		t.Errorf("/health: %v", h.Checks)
	}
	for _, path := range []string{"/", "/metrics"} {
		if status, body := get(path); status != http.StatusOK || !strings.Contains(body, "worker_active_workers 1") {
			t.Errorf("%s: %d %.300s", path, status, body)
		}
	}
}
