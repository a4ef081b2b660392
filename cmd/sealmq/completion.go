package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
)

// completionTimeout bounds how long a shell waits for names from the broker.
const completionTimeout = 2 * time.Second

// completeAll gives all commands what a shell completes: names of queues and exchanges from
// the broker, certificates from the data folder, and the values of flags that have few.
func completeAll(root *cobra.Command) {
	values := func(list ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
	}
	flags := map[string]cobra.CompletionFunc{
		"as":       certificateNames,
		"queue":    brokerNames(queueName),
		"exchange": brokerNames(exchangeName),
		"kind":     values("direct", "fanout", "topic"),
		"suite":    values(strings.Fields(strings.ReplaceAll(suiteNames(), ",", " "))...),
		"sealed":   values(sealedDefault),
		"key-type": values(string(ca.ECDSA), string(ca.RSA)),
	}
	var complete func(*cobra.Command)
	complete = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			complete(c)
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if f := flags[flag.Name]; f != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag.Name, f)
			}
		})
		if cmd.Runnable() && cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
			cmd.ValidArgsFunction = completeArgument
		}
	}
	complete(root)
}

// completeArgument gives the names of queues and exchanges where a command's Use line asks for one.
func completeArgument(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if kind := argumentKind(cmd.Use, len(args)); kind == queueName || kind == exchangeName {
		return brokerNames(kind)(cmd, args, word)
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// certificateNames are the identities, and the certificates with a key in the data folder.
func certificateNames(cmd *cobra.Command, _ []string, word string) (names []string, _ cobra.ShellCompDirective) {
	cfg, err := clientConfig(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	people, _ := os.ReadDir(cfg.Identities)
	for _, p := range people {
		if _, ok := identityDir(cfg, p.Name()); ok && strings.HasPrefix(p.Name(), word) {
			names = append(names, p.Name())
		}
	}
	keys, _ := filepath.Glob(filepath.Join(ca.In(cfg.Data).Certs(), "*.key"))
	for _, key := range keys {
		if name := strings.TrimSuffix(filepath.Base(key), ".key"); strings.HasPrefix(name, word) && exists(ca.In(cfg.Data).Cert(name)) {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// brokerNames asks the broker with the flags that are typed already.
func brokerNames(kind string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, word string) (names []string, _ cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		f := connectFlagsOf(cmd)
		if f == nil {
			return nil, cobra.ShellCompDirectiveError
		}
		c, err := f.dial(ctx, func(cfg *client.Config) { cfg.Log, cfg.MaxLineBytes = nil, 64<<20 })
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer c.Close()
		for _, name := range namesOf(ctx, c, kind) {
			if strings.HasPrefix(name, word) {
				names = append(names, name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// connectFlagsOf reads the flags that addConnectFlags added to a command; nil if it has none.
func connectFlagsOf(cmd *cobra.Command) *connectFlags {
	f := &connectFlags{cmd: cmd}
	for name, value := range map[string]*string{"as": &f.as, "cert": &f.cert, "cert-key": &f.key, "ca": &f.ca, "server-name": &f.serverName} {
		flag := cmd.Flag(name)
		if flag == nil {
			return nil
		}
		*value = flag.Value.String()
	}
	return f
}
