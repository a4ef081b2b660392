package mainserver_test

import (
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// TestGeneratedClient: with OmitEmpty a filter that a Go program does not set is none.
func TestGeneratedClient(t *testing.T) {
	s := newServer(t, nil)
	s.firstAdmin()
	s.register("acme-01", "m-1")
	c, err := mainapi.NewClientWithResponses(s.url, mainapi.WithHTTPClient(s.as(sealmq.RoleAdmin)), mainapi.WithRequestEditorFn(mainapi.OmitEmpty))
	s.must(err)
	messages, err := c.ListMessagesWithResponse(t.Context(), &mainapi.ListMessagesParams{})
	if err != nil || messages.JSON200 == nil || len(messages.JSON200.Items) != 1 {
		t.Errorf("%v %s", err, messages.Body)
	}
	users, err := c.ListUsersWithResponse(t.Context(), &mainapi.ListUsersParams{})
	if err != nil || users.JSON200 == nil || len(users.JSON200.Items) != 1 {
		t.Errorf("%v %s", err, users.Body)
	}
	records, err := c.ListAuditWithResponse(t.Context(), &mainapi.ListAuditParams{})
	if err != nil || records.JSON200 == nil || len(records.JSON200.Items) == 0 {
		t.Errorf("%v %s", err, records.Body)
	}
}
