// Package house holds the house in order: its tests read the tables "Rooms" and
// "Modules from outside" of docs/architecture.md and compare them with the
// imports of every Go file in the tree and with the layers that .golangci.yml
// gives to the linter. Document, linter and code can therefore not disagree.
//
// The imports are parsed from the files themselves, whatever their build tags
// say. Asking `go list` would not do: the go command keeps test results while the
// files that a test opened stay the same, and does not see what a program read
// that the test started.
//
// After a change of the tables, write the linter's part anew with
//
//	go test ./internal/house -run TestLinterHoldsTheTables -update
package house
