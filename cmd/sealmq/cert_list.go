package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
)

// issued is what "sealmq cert list" prints of a certificate.
type issued struct {
	Name         string      `json:"name"`
	Status       ca.Status   `json:"status"`
	Role         sealmq.Role `json:"role"`
	Domain       string      `json:"domain,omitempty"`
	IssuedAt     time.Time   `json:"issued_at"`
	IssuedBy     string      `json:"issued_by,omitempty"`
	Source       ca.Source   `json:"source,omitempty"`
	NotAfter     time.Time   `json:"not_after"`
	Serial       string      `json:"serial"`
	Fingerprint  string      `json:"fingerprint"`
	SupersededBy string      `json:"superseded_by,omitempty"`
	RevokedAt    time.Time   `json:"revoked_at,omitzero"`
	Reason       string      `json:"reason,omitempty"`
}

const statusAll = "all"

func newCertListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that the authority has issued",
		Long: `List what the authority in the data folder has issued, soonest end first. Certificates that were made with
other tools are not in its record.`,
		Example: `  sealmq cert list --status active
  sealmq cert list --expiring 30`,
	}
	status := cmd.Flags().String("status", statusAll, "only certificates with this `status`: all, active, revoked or expired")
	cmd.Flags().Int("expiring", 0, "only active certificates that expire within this number of `days` and were not replaced")
	return standalone(cmd, func(a call) error {
		if err := oneOf("status", ca.Status(*status), statusAll, ca.Active, ca.Revoked, ca.Expired); err != nil {
			return err
		}
		days, err := a.count("expiring")
		if err != nil {
			return err
		}
		list, err := listIssued(a)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(c issued) bool {
			return *status != statusAll && c.Status != ca.Status(*status) ||
				days > 0 && (c.Status != ca.Active || c.SupersededBy != "" || c.NotAfter.After(time.Now().AddDate(0, 0, days)))
		})
		return printList(a, nil, list, "there are no such certificates",
			[]string{"STATUS", "NAME", "ROLE", "DOMAIN", "UNTIL", "SERIAL", "SHA-256", "NOTE"}, issued.cells)
	})
}

func (c issued) cells() []any {
	note := ""
	switch {
	case c.Status == ca.Revoked:
		note = "revoked " + day(c.RevokedAt)
		if c.Reason != "" {
			note += ": " + c.Reason
		}
	case c.SupersededBy != "":
		note = "replaced by " + c.SupersededBy[:min(8, len(c.SupersededBy))] + "…"
	}
	return []any{c.Status, c.Name, c.Role, orDash(c.Domain), day(c.NotAfter), c.Serial, c.Fingerprint[:min(16, len(c.Fingerprint))] + "…", note}
}

// listIssued joins the record of certificates with what is revoked now.
func listIssued(a call) ([]issued, error) {
	authority, _, err := openAuthority(a, nil)
	if err != nil {
		return nil, err
	}
	history, err := authority.History()
	if err != nil {
		return nil, err
	}
	revoked, err := authority.Revocations(false, nil)
	if err != nil {
		return nil, err
	}
	list := make([]issued, 0, len(history))
	for _, c := range history {
		status, e := authority.StatusOf(c, revoked)
		list = append(list, issued{Name: c.Name, Status: status, Role: c.Role, Domain: c.Domain, IssuedAt: c.IssuedAt, IssuedBy: c.IssuedBy, Source: c.Source,
			NotAfter: c.NotAfter, Serial: c.Serial, Fingerprint: c.Fingerprint, SupersededBy: c.SupersededBy, RevokedAt: e.RevokedAt, Reason: e.Reason})
	}
	slices.SortStableFunc(list, func(a, b issued) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name))
	})
	return list, nil
}
