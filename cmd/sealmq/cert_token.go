package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
)

func newCertTokenCmd() *cobra.Command {
	body := mainapi.EnrolmentTokenRequest{}
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token with which a machine gets its certificate",
		Long: `Make an enrolment token for a machine, which runs "sealmq cert enroll" with it. The key is made there and never
leaves it. The token is shown once, is good once, and says which authority the machine has to trust.

The certificate has this name, role, hosts and lifetime, whatever the machine asks for. It is renewed by the
machine itself, with the same lifetime, until the time of ca.renew_for is over.`,
		Example: `  sealmq cert token acme-01
  sealmq cert token proxy-2 --role proxy --host proxy-2.example.org --valid 15m --server https://mq.example.org:8000`,
	}
	f := cmd.Flags()
	role := f.String("role", "", "`role` in the certificate: client, admin, proxy, worker, server or monitor (default: client)")
	f.StringVar(&body.Domain, "domain", "", "`label` that becomes the organizational unit of the subject")
	f.StringSliceVar(&body.Sans, "host", nil, "host `name` or IP address of a server, proxy or worker; can be repeated")
	valid := f.Duration("valid", time.Hour, "how long the token is good, 1m to 168h")
	lifetime := f.Duration("lifetime", ca.DefaultDays*24*time.Hour, "how long the certificate and each successor is valid")
	f.StringVar(&body.Server, "server", "", "`address` at which the machine reaches the main server, https://host:port (default: what the main server knows of itself)")
	f.BoolVar(&body.Replace, "replace", false, "make it although NAME has an active certificate")
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		if *valid < time.Minute || *valid > 7*24*time.Hour {
			return usagef("--valid: %v is not between 1m and 168h", *valid)
		}
		if *lifetime < ca.MinValid || *lifetime > ca.MaxDays*24*time.Hour {
			return usagef("--lifetime: %v is not between %v and %d days", *lifetime, ca.MinValid, ca.MaxDays)
		}
		body.ClientID, body.Role = a.args[0], sealmq.Role(*role)
		body.ExpiresIn, body.Lifetime = int(*valid/time.Second), int64(*lifetime/time.Second)
		r, err := c.MakeEnrolmentTokenWithResponse(a.ctx, body)
		if err != nil {
			return err
		}
		t := r.JSON201
		if !a.asJSON && !isQuiet(cmd) {
			a.note("the token is shown only now, and is good once until %s, for a certificate of %s with the role %s from %s", stampText(t.ExpiresAt), t.ClientID, t.Role, t.Server)
			a.note("run on the machine: sealmq cert enroll --token-file FILE, with the token in FILE; or write it to standard input of sealmq cert enroll")
		}
		return a.report(nil, t, "%s", t.Token)
	})
}

func newCertTokensCmd() *cobra.Command {
	return group("tokens", "List and revoke enrolment tokens, and consents to renewals", newCertTokensListCmd(), newCertTokensRevokeCmd())
}

func newCertTokensListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List enrolment tokens and consents to renewals, the newest first"}
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		r, err := c.ListEnrolmentsWithResponse(a.ctx)
		if err != nil {
			return err
		}
		head := []string{"ID", "KIND", "NAME", "ROLE", "STATE", "UNTIL", "BY", "HOSTS"}
		return printList(a, nil, r.JSON200.Items, "there are no enrolment tokens", head, func(e mainapi.Enrolment) []any {
			return []any{e.ID, e.Kind, e.ClientID, e.Role, e.State, localTime(e.ExpiresAt), orDash(e.CreatedBy), orDash(strings.Join(e.Hosts, " "))}
		})
	})
}

func newCertTokensRevokeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke ID", Short: "Take an enrolment token or a consent back that was not used", Example: "  sealmq cert tokens revoke 3f9a0c55d2e84b17"}
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		_, err := c.RevokeEnrolmentWithResponse(a.ctx, a.args[0])
		return a.report(err, result{"id": a.args[0]}, "%s is good no more", a.args[0])
	})
}

func newCertAllowRenewalCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "allow-renewal NAME",
		Short: "Let the holder of an expired certificate renew it once",
		Long: `Let the holder of the newest certificate of NAME renew it although it has expired. "sealmq cert renew" on the
machine then does so, also the one that watches, and proves that it has the old key. A revoked certificate is
never renewed.`,
		Example: "  sealmq cert allow-renewal acme-01 --valid 2h",
	}
	valid := cmd.Flags().Duration("valid", 24*time.Hour, "how long the consent is good, 1m to 168h")
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		if *valid < time.Minute || *valid > 7*24*time.Hour {
			return usagef("--valid: %v is not between 1m and 168h", *valid)
		}
		// The last to expire is at the end of the last page.
		p := mainapi.ListCertificatesParams{ClientID: a.args[0], Limit: maxPage}
		var last mainapi.Certificate
		for {
			r, err := c.ListCertificatesWithResponse(a.ctx, &p)
			if err != nil {
				return err
			}
			if n := len(r.JSON200.Items); n > 0 {
				last = r.JSON200.Items[n-1]
			}
			if p.Cursor = r.JSON200.NextCursor; p.Cursor == "" {
				break
			}
		}
		if last.Fingerprint == "" {
			return withHint(fmt.Errorf("there is no certificate of %q", a.args[0]), "\"sealmq cert token\" makes a token for a new one")
		}
		r, err := c.ConsentToRenewalWithResponse(a.ctx, last.Fingerprint, mainapi.ConsentRequest{ExpiresIn: int(*valid / time.Second)})
		if err != nil {
			return err
		}
		return a.report(nil, r.JSON201, "the holder of certificate %s of %s may renew it once until %s", last.Serial, last.ClientID, stampText(r.JSON201.ExpiresAt))
	})
}
