package main

import (
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	tab := table{head: []string{"NAME", ">COUNT", "NOTE"}}
	var out strings.Builder
	if err := tab.print(&out, "nothing"); err != nil || out.String() != "nothing\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	tab.add("a", 5, "")
	tab.add("größe", 12345, "x")
	out.Reset()
	want := "NAME   COUNT  NOTE\n" +
		"a          5\n" +
		"größe  12345  x\n"
	if err := tab.print(&out, ""); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		fraction float64
		want     string
	}{
		{-1, "5 messages"},
		{0, "[..............................]   0 %  5 messages"},
		{0.5, "[###############...............]  50 %  5 messages, 10s left"},
		{1, "[##############################] 100 %  5 messages"},
		{1.5, "[##############################] 100 %  5 messages"},
	} {
		if got := progressLine(c.fraction, "5 messages", 10*time.Second); got != c.want {
			t.Errorf("%v: %q, want %q", c.fraction, got, c.want)
		}
	}
}

func TestTextsForPeople(t *testing.T) {
	for got, want := range map[string]string{
		bytesText(0):                 "0 B",
		bytesText(1023):              "1023 B",
		bytesText(1024):              "1.0 KiB",
		bytesText(int64(5 << 30)):    "5.0 GiB",
		plural(1, "message"):         "1 message",
		plural(uint64(0), "message"): "0 messages",
		orDash(""):                   "-",
		stampText(time.Time{}):       "-",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
