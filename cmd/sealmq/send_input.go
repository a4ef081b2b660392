package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
)

// input is the files of a command line, one after the other.
type input struct {
	names []string
	lines bool
	stdin io.Reader

	place   *place // where to continue in the only file; nil without a spool
	purpose string // of the spool

	file  io.Closer // the open one
	path  string    // its absolute path, if it has one
	texts *sender.Source
}

// openInput checks all files, so that a wrong name is reported before anything is sent.
func openInput(cmd *cobra.Command, names []string, lines bool) (*input, error) {
	in := &input{names: names, lines: lines, stdin: cmd.InOrStdin()}
	if len(names) == 0 {
		in.names = []string{"-"}
	}
	for _, name := range in.names {
		if name == "-" {
			if f, ok := in.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				notef(cmd, "reading from the terminal; end with Ctrl-D")
			}
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, explainFile(cmd, name, err)
		}
		if info.IsDir() {
			return nil, withHint(fmt.Errorf("%s is a folder", name), "name the files in it")
		}
	}
	return in, nil
}

// next is the next text of the files.
func (in *input) next() (sender.Text, error) {
	for {
		if in.texts == nil {
			if len(in.names) == 0 {
				return sender.Text{}, io.EOF
			}
			if err := in.open(in.names[0]); err != nil {
				return sender.Text{}, err
			}
			in.names = in.names[1:]
		}
		text, err := in.texts.Next()
		if err == nil {
			text.Position = in.position(&text)
			return text, nil
		}
		if err != io.EOF {
			return sender.Text{}, err
		}
		in.texts = nil
		in.close()
	}
}

func (in *input) open(name string) error {
	what, from, read := name, place{}, in.stdin
	if name == "-" {
		what = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		in.file, read = f, f
		if from, err = in.resume(f); err != nil {
			return err
		}
	}
	switch {
	case in.lines:
		in.texts = sender.Lines(what, read).From(from.Line, from.Offset)
	case from.File != "": // all of it was one message
		in.texts = sender.Lines(what, strings.NewReader(""))
	default:
		in.texts = sender.Whole(what, read)
	}
	return nil
}

func (in *input) close() {
	if in.file != nil {
		in.file.Close()
		in.file = nil
	}
}

// explainFile adds a hint if there is no file of the name that an argument gives: it may be
// the text itself.
func explainFile(cmd *cobra.Command, name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f := cmd.Flag("file"); f != nil && f.Changed && f.Value.String() == name {
		return withHint(fmt.Errorf("there is no file %q, which --file names", name), "name a file that exists, with its path from the folder in which the command runs; without --file, standard input is sent")
	}
	stdin := ""
	if cmd.Name() != "send" {
		stdin = " -"
	}
	return withHint(fmt.Errorf("there is no file %q", name),
		"arguments are names of files; for a text, use standard input: echo %s | %s%s …", shellWord(name), cmd.CommandPath(), stdin)
}
