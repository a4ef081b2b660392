// Package mutation asks whether the tests of the product have teeth. It breaks the product in
// ways that would lose, repeat or invent messages, one at a time, and requires that a test
// that exists for it fails. The variants are made with "go build -overlay", so no switch
// of theirs is in the product.
//
// It holds tests only and says nothing about the product itself: the suites that it runs do.
package mutation
