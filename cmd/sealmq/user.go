package main

import (
	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/api/mainapi"
)

func newUserCmd() *cobra.Command {
	return group("user", "Look after the accounts of people", newUserActiveCmd("activate USER", "Let an account log in again", "activated %s", true), newUserClientCmd(), newUserCreateCmd(),
		newUserActiveCmd("deactivate USER", "Let an account log in no more, and end its logins", "deactivated %s", false), newUserDeleteCmd(), newUserListCmd(), newUserPasswordCmd(),
		newUserRoleCmd(), newUserSetupLinkCmd(), newUserUnlockCmd())
}

func newUserSetupLinkCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "setup-link",
		Short: "Make a link with which the first administrator chooses a password",
		Long: `Make a link to the portal with which the first administrator chooses e-mail address and password. It is good
once and for 30 minutes, and replaces an earlier link. Administrators make all further accounts.`,
	}
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		cfg, err := clientConfig(cmd)
		if err != nil {
			return err
		}
		address, err := cfg.portalURL("")
		if err != nil {
			return err
		}
		r, err := c.MakeSetupLinkWithResponse(a.ctx)
		if err != nil {
			return err
		}
		link := setupLink(address, r.JSON201.Token)
		return a.report(nil, result{"link": link, "expires_at": r.JSON201.ExpiresAt}, "%s", link)
	})
}
