package main

import (
	"cmp"
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// This file has the commands for accounts. USER is an id or an e-mail address.

func newUserListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List accounts"}
	search := cmd.Flags().String("search", "", "only those with this `text` in e-mail address or name")
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		list := []mainapi.Account{}
		for p := (mainapi.ListUsersParams{Search: *search, Limit: maxPage}); ; {
			r, err := c.ListUsersWithResponse(a.ctx, &p)
			if err != nil {
				return err
			}
			list = append(list, r.JSON200.Items...)
			if p.Cursor = r.JSON200.NextCursor; p.Cursor == "" {
				break
			}
		}
		head := []string{"ID", "EMAIL", "ROLE", "CLIENT", "STATE", "CREATED", "LAST LOGIN"}
		return printList(a, nil, list, "there are no accounts", head, func(u mainapi.Account) []any {
			state := "active"
			switch {
			case !u.Active:
				state = "inactive"
			case u.Locked:
				state = "locked"
			}
			return []any{u.ID, u.Email, string(u.Role), u.ClientID, state, localTime(u.CreatedAt), cmp.Or(localTime(u.LastLogin), "never")}
		})
	})
}

// findUser is the account with an id or an e-mail address.
func findUser(a call, c *mainapi.ClientWithResponses, name string) (mainapi.Account, error) {
	if id, err := strconv.ParseInt(name, 10, 64); err == nil && id > 0 {
		r, err := c.GetUserWithResponse(a.ctx, id)
		if err != nil {
			return mainapi.Account{}, err
		}
		return *r.JSON200, nil
	}
	r, err := c.ListUsersWithResponse(a.ctx, &mainapi.ListUsersParams{Search: name, Limit: maxPage})
	if err != nil {
		return mainapi.Account{}, err
	}
	for _, u := range r.JSON200.Items {
		if u.Email == strings.ToLower(name) {
			return u, nil
		}
	}
	return mainapi.Account{}, withHint(errors.New("there is no account "+name), `"sealmq user list" shows them`)
}

func newUserCreateCmd() *cobra.Command {
	body := mainapi.UserCreate{}
	cmd := &cobra.Command{
		Use:   "create EMAIL",
		Short: "Make an account",
		Long: `Make an account. Its password is asked for on the terminal, or is the first line of --password-file, and must be
changed at the first login.`,
		Example: "  sealmq user create anna@example.com --role operator --password-file anna.txt",
	}
	fl := cmd.Flags()
	role := fl.String("role", "user", "`role`: user, user_manager, operator or admin")
	fl.StringVar(&body.Name, "name", "", "`name` of the person")
	fl.StringVar(&body.ClientID, "client-id", "", "the `client` whose messages the account sees")
	password := addPasswordFlag(cmd)
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) (err error) {
		body.Email, body.Role = a.args[0], sealmq.Role(*role)
		if body.Password, err = password(); err != nil {
			return err
		}
		r, err := c.CreateUserWithResponse(a.ctx, body)
		if err != nil {
			return err
		}
		return a.report(nil, r.JSON201, "[OK] User created: %s", r.JSON201.Email)
	})
}

// addPasswordFlag adds --password-file. The password is never an argument, which others can see.
func addPasswordFlag(cmd *cobra.Command) func() (string, error) {
	f := &passphraseFlag{cmd: cmd}
	cmd.Flags().StringVar(&f.file, "password-file", "", "`file` whose first line is the password (default: ask for it)")
	return func() (string, error) {
		text, err := f.choose()
		return string(text), err
	}
}

// userCommand is a command that does one thing to an account.
func userCommand(cmd *cobra.Command, done string, do func(a call, c *mainapi.ClientWithResponses, u mainapi.Account) error) *cobra.Command {
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		u, err := findUser(a, c, a.args[0])
		if err == nil {
			err = do(a, c, u)
		}
		return a.report(err, result{"id": u.ID, "email": u.Email}, done, u.Email)
	})
}

func newUserPasswordCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "password USER", Short: "Set the password of an account, which must be changed at the next login"}
	password := addPasswordFlag(cmd)
	return userCommand(cmd, "set the password of %s, and ended its logins", func(a call, c *mainapi.ClientWithResponses, u mainapi.Account) error {
		text, err := password()
		if err != nil {
			return err
		}
		_, err = c.SetUserPasswordWithResponse(a.ctx, u.ID, mainapi.UserPassword{NewPassword: text})
		return err
	})
}

func newUserDeleteCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "delete USER", Short: "Delete an account; its entries in the audit log stay"}
	return userCommand(cmd, "deleted %s", func(a call, c *mainapi.ClientWithResponses, u mainapi.Account) error {
		_, err := c.DeleteUserWithResponse(a.ctx, u.ID)
		return err
	})
}

func newUserUnlockCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "unlock USER", Short: "Let an account log in again that is locked by wrong passwords"}
	return userCommand(cmd, "unlocked %s", func(a call, c *mainapi.ClientWithResponses, u mainapi.Account) error {
		_, err := c.UnlockUserWithResponse(a.ctx, u.ID)
		return err
	})
}

// userChange is a command that changes something of an account.
func userChange(use, short, done string, change func(args []string) mainapi.UserUpdate) *cobra.Command {
	return userCommand(&cobra.Command{Use: use, Short: short}, done, func(a call, c *mainapi.ClientWithResponses, u mainapi.Account) error {
		_, err := c.UpdateUserWithResponse(a.ctx, u.ID, change(a.args))
		return err
	})
}

func newUserRoleCmd() *cobra.Command {
	return userChange("role USER ROLE", "Change the role of an account: user, user_manager, operator or admin", "changed the role of %s", func(args []string) mainapi.UserUpdate {
		role := sealmq.Role(args[1])
		return mainapi.UserUpdate{Role: &role}
	})
}

func newUserClientCmd() *cobra.Command {
	return userChange("client USER [CLIENT]", "Set the client whose messages an account sees, or none", "set the client of %s", func(args []string) mainapi.UserUpdate {
		client := ""
		if len(args) > 1 {
			client = args[1]
		}
		return mainapi.UserUpdate{ClientID: &client}
	})
}

func newUserActiveCmd(use, short, done string, active bool) *cobra.Command {
	return userChange(use, short, done, func([]string) mainapi.UserUpdate { return mainapi.UserUpdate{Active: &active} })
}
