// Package accounts has the rules for people: who may log in, how long a login lasts, and who
// may change which account.
//
// It promises that a store never sees a password, nor the secret of a session, link or token;
// that an unknown e-mail address and a wrong password take the same time and get the same
// answer; that guessing is slowed down for each account, also by a restart or on several main
// servers, and for each network address; that what ends a login acts at its next request; and that the last active administrator stays.
//
// It knows neither HTTP nor a database: requests are its caller's, and Store is what it needs
// of a database.
package accounts
