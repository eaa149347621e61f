// Package embedded starts the token worker that a release carries inside itself.
//
// A release is one static program, and the process that loads a vendor's module
// cannot be static, so the release holds that second program as bytes (build tag
// embedworker). To start it, the bytes must become a file that the kernel
// executes. A Launcher tries three ways and keeps the first that works:
//
//  1. a file in memory that is sealed: nobody can change it, and nothing is left
//     on a disk;
//  2. a new file in the runtime directory, opened and at once removed again, for
//     systems that execute nothing from memory (vm.memfd_noexec = 2);
//  3. a file that root has put where the configuration says, for systems that
//     execute nothing from any place that the agent can write to.
//
// Trust: whatever the way, the file's SHA-256 is compared with that of the bytes
// inside, and what is executed is the very file that was compared, through its
// open descriptor and not by a name that may lead elsewhere a moment later. The
// third kind of file is changed by nobody but root besides.
package embedded
