package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

func newConfigCmd() *cobra.Command {
	return group("config", "Show and check the configuration",
		&cobra.Command{
			Use:   "example",
			Short: "Print an example file with every key, its meaning and its default",
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), configExample)
				return err
			},
		},
		&cobra.Command{
			Use:   "check",
			Short: "Check the configuration without starting anything",
			Long: `Read flags, environment and file as "sealmq serve" would, and report everything that is
wrong. Print the values that differ from their defaults.`,
			RunE: func(cmd *cobra.Command, _ []string) error { return checkConfig(cmd) },
		})
}

// checkFiles reads the files that the configuration names, as "sealmq serve" would.
func (c *Config) checkFiles() error {
	if _, err := c.revocationList(cmp.Or(c.TLS.CA, ca.In(c.Data).CA), nil); err != nil {
		return err
	}
	if _, err := c.channels(); err != nil {
		return err
	}
	if c.TLS.Cert == "" {
		return nil
	}
	files := mtls.Files{Cert: c.TLS.Cert, Key: c.TLS.Key, CA: c.TLS.CA}
	_, err := mtls.ServerConfig(files, mtls.Options{MinVersion: c.TLS.version()})
	return withHint(err, "tls.cert, tls.key and tls.ca name the broker's certificate, its key, and the authority of its clients; omit all three to use the files in the data folder")
}

func checkConfig(cmd *cobra.Command) error {
	c, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	if err := c.checkFiles(); err != nil {
		return err
	}
	defaults := defaultConfig()
	base := defaults.fields()
	for i, f := range c.fields() {
		if f.value.Interface() != base[i].value.Interface() {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %v\n", f.key, f.value.Interface())
		}
	}
	fmt.Fprintln(cmd.OutOrStdout(), "configuration is valid")
	return nil
}
