package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
)

// printable replaces control characters and escapes what cannot be seen, so that text from
// certificates, envelopes and brokers neither controls the terminal nor looks like another.
func printable(s string) string {
	return sealmq.Escape(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s))
}

// oneLine is printable for a text that may have several lines.
func oneLine(s string) string { return printable(strings.ReplaceAll(s, "\n", "; ")) }

// table is a list for people with aligned columns.
type table struct {
	head []string // a column whose name begins with ">" is aligned to the right; may be nil
	rows [][]string
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = printable(fmt.Sprint(c))
	}
	t.rows = append(t.rows, row)
}

// print writes the table, or empty if it has no rows.
func (t *table) print(w io.Writer, empty string) error {
	if len(t.rows) == 0 {
		_, err := fmt.Fprintln(w, empty)
		return err
	}
	all := t.rows
	right := make([]bool, len(all[0]))
	if t.head != nil {
		head := make([]string, len(t.head))
		for i, name := range t.head {
			head[i], right[i] = strings.CutPrefix(name, ">")
		}
		all = append([][]string{head}, all...)
	}
	width := make([]int, len(right))
	for _, row := range all {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var l strings.Builder
		for i, cell := range row {
			format := "%-*s  "
			if right[i] {
				format = "%*s  "
			}
			fmt.Fprintf(&l, format, width[i], cell) // the width counts runes
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// addWatchFlag adds --watch to a command that shows something that changes.
func addWatchFlag(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Duration("watch", 0, "show it again and again, until it is interrupted; --watch=5s says how often (2s without a value)")
	fl.Lookup("watch").NoOptDefVal = "2s"
}

// repeat runs a command once, or with --watch until it is interrupted. On a terminal each run
// takes the place of the last one.
func (a call) repeat(run func(a call) error) error {
	flag := a.cmd.Flag("watch")
	if flag == nil || !flag.Changed || flag.Value.Type() != "duration" { // another command watches in its own way
		return run(a)
	}
	every, err := a.cmd.Flags().GetDuration("watch")
	if err != nil || every < 100*time.Millisecond {
		return usage(errors.Join(err, errors.New("--watch must be at least 100ms")), "for example --watch=2s")
	}
	before := ""
	if onTerminal(a.out) && !a.asJSON {
		before = "\x1b[H\x1b[2J"
	}
	out := a.out
	for {
		var page bytes.Buffer
		a.out = &page
		if err := run(a); err != nil {
			if a.cmd.Context().Err() != nil {
				return nil
			}
			return err
		}
		if _, err := io.WriteString(out, before+page.String()); err != nil {
			return err
		}
		if clock.Sleep(a.cmd.Context(), clock.System, every) != nil {
			return nil
		}
	}
}

// bytesText is a size for people.
func bytesText[N ~int | ~int64 | ~uint64](n N) string {
	switch v := float64(n); {
	case v < 1<<10:
		return fmt.Sprintf("%d B", n)
	case v < 1<<20:
		return fmt.Sprintf("%.1f KiB", v/(1<<10))
	case v < 1<<30:
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	default:
		return fmt.Sprintf("%.1f GiB", v/(1<<30))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// plural is "1 message" or "2 messages".
func plural[N ~int | ~int64 | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// orDash replaces an empty cell.
func orDash(s string) string { return cmp.Or(s, "-") }

func stampText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// sentence is a line for people that grows by clauses.
type sentence struct{ strings.Builder }

// add appends a clause if it says something.
func (s *sentence) add(when bool, format string, args ...any) {
	if when {
		fmt.Fprintf(s, format, args...)
	}
}
