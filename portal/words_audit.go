package portal

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

type auditEvent struct{ name, audit, own string }

// auditEvents are the events of the audit log in words, in the order of the filter: as the log
// says it of somebody, and as a person's own activity says it, if it differs.
var auditEvents = []auditEvent{
	{"auth_denied", "Was refused", ""},
	{"message_viewed", "Read a message", ""},
	{"message_retried", "Queued a message again", ""},
	{"messages_retried", "Queued messages again", ""},
	{"queue_requeued", "Queued dead letters again", ""},
	{"dead_letters_returned", "Returned dead letters", ""},
	{"data_cleanup", "Deleted old messages", ""},
	{"backup_started", "Began a backup", ""},
	{"backup_finished", "Ended a backup", ""},
	{"backup_fetched", "Fetched a backup", ""},
	{"log_level_changed", "Changed the level of the log", ""},
	{"certificate_generated", "Issued a certificate", ""},
	{"certificate_renewed", "Renewed a certificate", ""},
	{"certificate_revoked", "Revoked a certificate", ""},
	{"certificate_enrolled", "A client got its first certificate", ""},
	{"certificate_self_renewed", "A client renewed its own certificate", ""},
	{"enrolment_token_created", "Made an enrolment token", ""},
	{"enrolment_revoked", "Took back an enrolment token", ""},
	{"enrolment_failed", "Was refused a certificate", ""},
	{"renewal_consent_given", "Allowed a client to renew its certificate", ""},
	{"client_revoked", "Revoked a client", ""},
	{"client_updated", "Changed a client", ""},
	{"client_auto_registered", "A client sent for the first time", ""},
	{"broker_queue_declared", "Declared a queue", ""},
	{"broker_queue_changed", "Changed the options of a queue", ""},
	{"broker_queue_paused", "Paused a queue", ""},
	{"broker_queue_resumed", "Resumed a queue", ""},
	{"broker_queue_purged", "Purged a queue", ""},
	{"broker_queue_deleted", "Deleted a queue", ""},
	{"broker_deleted", "Deleted a queue or an exchange", ""},
	{"broker_messages_moved", "Moved messages to another queue", ""},
	{"broker_key_written", "Wrote a key of the directory", ""},
	{"broker_key_reset", "Reset a key of the directory", ""},
	{"broker_restore_attested", "Attested a restore of the directory", ""},
	{"broker_connection_closed", "Disconnected a client", ""},
	{"broker_client_banned", "Banned a client for a while", ""},
	{"broker_statistics_reset", "Reset the statistics of the broker", ""},
	{"user_login", "Logged in", ""},
	{"user_login_failed", "Failed to log in", "Somebody failed to log in to your account"},
	{"user_login_confirmed", "Confirmed the password", ""},
	{"user_logout", "Logged out", ""},
	{"refresh_token_reused", "Used a refresh token twice, which ended the login", ""},
	{"user_sessions_ended", "Ended sessions", "Sessions ended"},
	{"user_created", "Created an account", "Account made"},
	{"user_updated", "Changed an account", "Account changed"},
	{"user_role_updated", "Changed a role", "Role changed"},
	{"user_status_updated", "Activated or deactivated an account", "Activated or deactivated"},
	{"user_unlocked", "Unlocked an account", "Unlocked"},
	{"user_deleted", "Deleted an account", ""},
	{"user_password_changed", "Changed a password", "Password changed"},
	{"password_reset_request", "Asked for a link to set the password", ""},
	{"password_reset_confirm", "Set the password with a link", "Password set with a link"},
	{"user_second_factor_added", "Set up a second factor", "Second factor set up"},
	{"user_second_factor_removed", "Removed a second factor", "Second factor removed"},
	{"api_token_created", "Made an API token", ""},
	{"api_token_removed", "Removed an API token", ""},
	{"setup_link_created", "Made a setup link", ""},
	{"message_registered", "A message was accepted", ""},
	{"message_delivered", "A message was delivered", ""},
}

// eventText is an event of the audit log in words, or of one's own activity.
func eventText(name string, own bool) string {
	i := slices.IndexFunc(auditEvents, func(e auditEvent) bool { return e.name == name })
	switch {
	case i < 0:
		return spaced(name)
	case own:
		return cmp.Or(auditEvents[i].own, auditEvents[i].audit)
	}
	return auditEvents[i].audit
}

// detailWords are values of details in words, by their names.
var detailWords = map[string]map[string]string{
	"reason": {"keyCompromise": "lost or stolen", "cACompromise": "its authority was stolen", "cessationOfOperation": "no longer needed", "affiliationChanged": "the owner has changed", "superseded": "replaced by a new one",
		"privilegeWithdrawn": "may not any more", "certificateHold": "on hold",
		"invalid_credentials": "wrong password", "second_factor_required": "wrong code", "account_locked": "locked", "rate_limit_exceeded": "network address locked", "account_inactive": "the account is not active", "invalid_link": "the link is void"},
	"role": {"admin": "administrator", "user_manager": "user manager"},
}

// spaced is a name of the machine as words.
func spaced(name string) string { return strings.ReplaceAll(name, "_", " ") }

// detailsText is what the audit log says besides, in a line.
func detailsText(details map[string]any) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(details)) {
		text, ok := details[name].(string)
		if !ok {
			b, err := json.Marshal(details[name])
			if err != nil {
				continue
			}
			text = string(b)
		}
		parts = append(parts, spaced(name)+": "+cmp.Or(detailWords[name][text], text))
	}
	return strings.Join(parts, " · ")
}

// reasonText is why a certificate was revoked.
func reasonText(reason string) string { return cmp.Or(detailWords["reason"][reason], reason) }
