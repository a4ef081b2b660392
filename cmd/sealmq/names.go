package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// This file has what commands know about names of queues and exchanges: which arguments are
// such names, which of them exist, and which existing one a name may be a misspelling of.

// nameKinds are the words of Use lines that stand for names.
var nameKinds = map[string]string{
	"QUEUE": queueName, "FROM": queueName, "TO": queueName, "EXCHANGE": exchangeName, "KEY": "routing key",
}

const queueName, exchangeName = "queue", "exchange"

// argumentKind is the kind of name that the argument at a place is, or "".
func argumentKind(use string, place int) string {
	words := argumentWords(use)
	if len(words) == 0 {
		return ""
	}
	return nameKinds[strings.Trim(words[min(place, len(words)-1)], "[].")]
}

// checkNames checks the arguments that are names.
func checkNames(use string, args []string) error {
	for i, arg := range args {
		if kind := argumentKind(use, i); kind != "" {
			if err := checkName(kind, arg); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkName is sealmq.CheckName for what a person has typed.
func checkName(kind, name string) error {
	err := sealmq.CheckName(kind, name)
	if err == nil {
		return nil
	}
	better := strings.Join(strings.FieldsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), "-")
	if better == name || sealmq.CheckName(kind, better) != nil {
		return usage(err, sealmq.BadName.Info().Remedy)
	}
	return usage(fmt.Errorf("%w: %q", err, name), fmt.Sprintf("a name is one word, for example %s", better))
}

// nearName is the existing name that a missing one is probably meant to be, or "". Names that
// differ in a number only are not alike.
func nearName(name string, existing []string) string {
	if len(name) < 4 {
		return ""
	}
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsDigit(r) || unicode.IsPunct(r) {
				return -1
			}
			return unicode.ToLower(r)
		}, s)
	}
	for _, other := range existing {
		d := distance(strings.ToLower(name), strings.ToLower(other))
		numbers := strings.IndexFunc(name+other, unicode.IsDigit) >= 0 && plain(name) == plain(other)
		if other != name && d < 2 && !numbers {
			return other
		}
	}
	return ""
}

// namesOf lists the queues or the exchanges.
func namesOf(ctx context.Context, c *client.Client, kind string) (names []string) {
	if kind == exchangeName {
		list, _ := c.Exchanges(ctx)
		for _, x := range list {
			names = append(names, x.Name)
		}
		return names
	}
	list, _ := c.Queues(ctx)
	for _, q := range list {
		names = append(names, q.Name)
	}
	return names
}

// suggest adds to an error about a missing queue or exchange the name that was probably meant.
// names are the candidates for what is missing.
func suggest(ctx context.Context, c *client.Client, err error, kind string, names ...string) error {
	want := map[sealmq.Code]string{sealmq.NoQueue: queueName, sealmq.NoExchange: exchangeName}[sealmq.CodeOf(err)]
	if explained := (*hintError)(nil); want == "" || want != kind || errors.As(err, &explained) {
		return err
	}
	existing := namesOf(ctx, c, kind)
	for _, name := range names {
		if near := nearName(name, existing); near != "" && !slices.Contains(existing, name) {
			return withHint(err, "there is '%s'; did you mean it? \"sealmq %s list\" shows all", near, kind)
		}
	}
	return err
}

// suggestRoute is suggest for an exchange and a routing key that messages were published with.
func suggestRoute(ctx context.Context, c *client.Client, err error, exchange, key string) error {
	if explained := (*hintError)(nil); sealmq.CodeOf(err) != sealmq.Unroutable || errors.As(err, &explained) {
		return suggest(ctx, c, err, exchangeName, exchange)
	}
	list, _ := c.Bindings(ctx, "")
	var keys []string
	for _, b := range list {
		if b.Exchange == exchange {
			keys = append(keys, b.Key)
		}
	}
	if near := nearName(key, keys); near != "" {
		return withHint(err, "a queue is bound with the key '%s'; did you mean it? \"sealmq binding list\" shows all bindings", near)
	}
	return err
}

// suggestArgument is suggest for the arguments of a command.
func (a call) suggestArgument(err error) error {
	for i, arg := range a.args {
		if kind := argumentKind(a.cmd.Use, i); kind == queueName || kind == exchangeName {
			err = suggest(a.ctx, a.client, err, kind, arg)
		}
	}
	return err
}

// made says which of a queue and an exchange do not exist before a command makes them.
type made struct{ queue, exchange bool }

// willMake looks which of them are missing; an empty name is none. The lines say that they are
// made, and which existing name is much like a new one.
func willMake(ctx context.Context, c *client.Client, queue, exchange string) (m made, lines []string) {
	tell := func(kind, name string, existing []string) {
		line := fmt.Sprintf("made %s %s", kind, name)
		if near := nearName(name, existing); near != "" {
			line += fmt.Sprintf("; there is '%s', did you mean it?", near)
		}
		lines = append(lines, line)
	}
	if exchange != "" {
		if list, err := c.Exchanges(ctx); err == nil {
			var names []string
			for _, x := range list {
				names = append(names, x.Name)
			}
			if m.exchange = !slices.Contains(names, exchange); m.exchange {
				tell(exchangeName, exchange, names)
			}
		}
	}
	if queue != "" {
		if _, err := c.Queue(ctx, queue); sealmq.CodeOf(err) == sealmq.NoQueue {
			m.queue = true
			tell(queueName, queue, namesOf(ctx, c, queueName))
		}
	}
	return m, lines
}
