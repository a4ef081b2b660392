package main

import (
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// onTerminal reports whether w is a terminal.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

const (
	bold, red, cyan = "1", "1;31", "36"
)

// colour writes a text in a colour, if w is a terminal that shows it and NO_COLOR is not set
// (https://no-color.org).
func colour(w io.Writer, code, text string) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || runtime.GOOS == "windows" || !onTerminal(w) {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// addQuietFlag adds --quiet to all commands.
func addQuietFlag(root *cobra.Command) {
	root.PersistentFlags().BoolP("quiet", "q", false, "print only results that were asked for, and errors")
}

func isQuiet(cmd *cobra.Command) bool {
	f := cmd.Flag("quiet")
	return f != nil && f.Value.String() == "true"
}
