package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/proxy"
)

func newAPIKeyCmd() *cobra.Command {
	return group("apikey", "Let clients of the proxy in that cannot hold a certificate", newAPIKeyIssueCmd(), newAPIKeyListCmd(), newAPIKeyRevokeCmd())
}

// apiKeyFile has the keys of the proxy whose data folder it is in.
func apiKeyFile(data string) string { return filepath.Join(data, "pipeline", "api-keys.json") }

func newAPIKeyIssueCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "issue CLIENT",
		Short: "Make a key for a client, and show it once",
		Long: `Make a key for a client, which sends it in the header X-API-Key. It is shown once: the proxy keeps
its hash only. It counts for the proxy with this data folder, within a second.`,
		Example: "  sealmq apikey issue meter-1 --from 10.20.0.0/16",
	}
	from := cmd.Flags().StringSlice("from", nil, "`network` or address from which the key is good (default: all); can be repeated. Behind a reverse proxy, the address is that of the reverse proxy")
	return configured(cmd, func(a call, cfg Config) error {
		client := a.args[0]
		if !mtls.ValidID(client) {
			return usagef("name %q: use a letter or digit, then up to %d letters, digits, dots, underscores and hyphens", client, mtls.MaxIDBytes-1)
		}
		if role := mtls.ReservedRole(client); role != "client" {
			return usagef("%s is the name of a %s, which needs a certificate", client, role)
		}
		networks, err := parseNetworks(strings.Join(*from, ","))
		if err != nil {
			return usage(fmt.Errorf("--from: %w", err), "")
		}
		key, secret := proxy.NewAPIKey(client, networks, time.Now())
		err = proxy.ChangeAPIKeys(durable.OS(), apiKeyFile(cfg.Data), func(list []proxy.APIKey) ([]proxy.APIKey, error) {
			return append(list, key), nil
		})
		return a.facts(err, result{"id": key.ID, "client_id": client, "api_key": secret}, "id", key.ID, "client", client, "key", secret+"  (shown only now)")
	})
}

// apiKeyInfo is a key without its hash.
type apiKeyInfo struct {
	ID         string         `json:"id"`
	ClientID   string         `json:"client_id"`
	AllowedIPs []netip.Prefix `json:"allowed_ips,omitempty"`
	CreatedAt  time.Time      `json:"created_at,omitzero"`
	LastUsedAt time.Time      `json:"last_used_at,omitzero"`
}

func newAPIKeyListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the keys, without what they are"}
	return configured(cmd, func(a call, cfg Config) error {
		keys, err := proxy.ReadAPIKeys(durable.OS(), apiKeyFile(cfg.Data))
		if err != nil {
			return err
		}
		uses, err := proxy.APIKeyUses(durable.OS(), apiKeyFile(cfg.Data))
		list := []apiKeyInfo{}
		for _, k := range keys {
			list = append(list, apiKeyInfo{k.ID, k.ClientID, k.AllowedIPs, k.CreatedAt, uses[k.ID]})
		}
		return printList(a, err, list, "there are no API keys", []string{"ID", "CLIENT", "MADE", "LAST USED", "FROM"}, func(k apiKeyInfo) []any {
			from := "everywhere"
			if len(k.AllowedIPs) > 0 {
				from = strings.Trim(fmt.Sprint(k.AllowedIPs), "[]")
			}
			return []any{k.ID, k.ClientID, localTime(k.CreatedAt), cmp.Or(localTime(k.LastUsedAt), "never"), from}
		})
	})
}

func newAPIKeyRevokeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke ID", Short: "Take a key back, within a second"}
	return configured(cmd, func(a call, cfg Config) error {
		id := a.args[0]
		err := proxy.ChangeAPIKeys(durable.OS(), apiKeyFile(cfg.Data), func(list []proxy.APIKey) ([]proxy.APIKey, error) {
			kept := slices.DeleteFunc(slices.Clone(list), func(k proxy.APIKey) bool { return k.ID == id })
			if len(kept) == len(list) {
				return nil, withHint(errors.New("there is no API key "+id), `"sealmq apikey list" shows the ids`)
			}
			return kept, nil
		})
		return a.report(err, result{"id": id, "revoked": true}, "revoked the API key %s", id)
	})
}
