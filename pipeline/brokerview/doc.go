// Package brokerview is what operators see of a broker and do with it: its queues, exchanges and
// connections with their rates, and its dead letters.
//
// It promises that a look at many queues does not ask the broker anew, that what is kept is
// bounded by what the broker has, and that no dead letter is lost on its way back. It shows no
// body of a message, and decides nothing about who may.
package brokerview
