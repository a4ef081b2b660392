package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// addYesFlag adds --yes to a command that asks before it removes something.
func addYesFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("yes", false, "do not ask for confirmation")
}

// confirm asks the person at the terminal before something is removed, unless --yes is given.
// Without a terminal nobody is asked, so that scripts go on as they are.
func (a *call) confirm(format string, args ...any) error {
	yes, err := a.cmd.Flags().GetBool("yes")
	in := terminalOf(a.cmd)
	if err != nil || yes || in == nil {
		return err
	}
	a.ctx = a.cmd.Context() // the time to answer is the person's
	return askYes(a.cmd, in, "nothing was removed", format, args...)
}

// askYes says what will happen. If the answer is not yes, its error is otherwise.
func askYes(cmd *cobra.Command, in *os.File, otherwise, format string, args ...any) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s. Type yes to continue: ", oneLine(fmt.Sprintf(format, args...)))
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New(otherwise)
	}
	return nil
}
