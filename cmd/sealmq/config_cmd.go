package main

import (
	_ "embed"
	"fmt"

	"github.com/spf13/cobra"
)

//go:embed config.example.yaml
var configExample string

func newConfigCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show and check the configuration",
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "example",
			Short: "Print every key with its meaning and default",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), configExample)
				return err
			},
		},
		&cobra.Command{
			Use:   "check",
			Short: "Read the configuration without starting anything",
			Long: `Reads flags, environment and file as "sealmq serve" would, and reports everything
that is wrong. It prints the values that are not the default.`,
			Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return checkConfig(cmd) },
		},
	)
	return cmd
}

func checkConfig(cmd *cobra.Command) error {
	c, err := loadConfig(cmd)
	if err != nil {
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
