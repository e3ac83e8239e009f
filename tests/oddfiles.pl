# Below the folder given: one file for each property that Linux keeps of files, and names of all kinds of bytes.
# Perl alone, because every machine that is tried has it, and neither setcap nor setfacl nor setfattr.
use strict;
use warnings;
use Fcntl;
use POSIX qw(mkfifo);

my ($top) = @ARGV;
my $SETXATTR = 188;
umask 022;
mkdir $top or die "$top: $!";
chdir $top or die "$top: $!";

sub file {
    my ($name, $text) = @_;
    sysopen my $file, "./$name", O_WRONLY | O_CREAT or die "$name: $!";
    print $file $text // "content of $name\n";
    close $file or die "$name: $!";
}

sub folder {
    mkdir "./$_[0]" or die "$_[0]: $!";
}

sub attribute {
    my ($path, $name, $value) = @_;
    syscall($SETXATTR, $path, $name, $value, length $value, 0) == 0 or die "$name of $path: $!";
}

# struct posix_acl_xattr: user::rwx, user:7:r-x, group::r-x, mask::r-x, other::---
my $acl = pack "V (vvV)*", 2, 1, 7, 0xffffffff, 2, 5, 7, 4, 5, 0xffffffff, 16, 5, 0xffffffff, 32, 0, 0xffffffff;

# modes, owners, times
for (["secret", 0600], ["setuid", 04755], ["setgid", 02755], ["nobody-reads", 0]) {
    file $_->[0];
    chmod $_->[1], $_->[0];
}
for (["sticky", 01777], ["setgid-folder", 02750], ["private", 0700]) {
    folder $_->[0];
    chmod $_->[1], $_->[0];
}
file "owned";
chown 60001, 60002, "owned";
folder "owned-folder";
chown 60001, 60002, "owned-folder";
file "owned-and-setuid";
chown 60001, 60002, "owned-and-setuid";
chmod 06711, "owned-and-setuid";
file "old";
utime 86400, 86400, "old";
file "empty", "";

# links, holes, pipes
symlink "nowhere", "dangling";
symlink "x" x 300, "long-target";
symlink join("/", ("y" x 200) x 10), "longer-target";
symlink "new\nline\\and\xe9", "odd-target";
file "one";
link "one", "another";
folder "other";
link "one", "other/third";
symlink "one", "link";
link "link", "same-link";
mkfifo "pipe", 0622 or die "pipe: $!";
chmod 0622, "pipe";
sysopen my $holes, "holes", O_WRONLY | O_CREAT or die "holes: $!";
syswrite $holes, "begin";
sysseek $holes, 7 << 20, 0;
syswrite $holes, "middle";
truncate $holes, 20 << 20;
close $holes;
file "zeros", "\0" x 300_000;

# extended attributes
file "capable";
attribute "capable", "security.capability", pack "V5", 0x02000001, 1 << 13, 0, 0, 0;
file "capable-in-containers";
attribute "capable-in-containers", "security.capability", pack "V6", 0x03000001, 1 << 13, 0, 0, 0, 1000;
file "listed";
attribute "listed", "system.posix_acl_access", $acl;
folder "listed-folder";
file "listed-folder/made-before";
attribute "listed-folder", "system.posix_acl_access", $acl;
attribute "listed-folder", "system.posix_acl_default", $acl;
file "listed-folder/inherits";
file "noted";
attribute "noted", "user.note", "any\0bytes\n=\xff";
attribute "noted", "user.a=b %", "";
folder "noted-folder";
attribute "noted-folder", "user.note", "x" x 3000;

# names
folder "names";
chdir "names" or die $!;
file $_ for "new\nline", "back\\slash", "tab\t", " ", " leading", "trailing ", "-rf", "--help", "latin\xe9", "\xff",
    "carriage\r", "both\r\\\n", "bell\a\e[31m", "n" x 255, ".wh.x", ".wh..wh..opq", ".wh.", "a,b:c", "[a]*?", "%s", "#",
    "umlaut \xc3\xa4", "'\"\$`;&|", "...";
file "\\x41", "";
folder $_ for "folder\n", ".wh.folder", "empty";
symlink "new\nline", "link\n";
link "new\nline", "hard\nlink";
chdir "..";
folder "many";
file "many/$_", "" for 1 .. 300;
my $deep = "";
for (1 .. 10) {
    $deep .= ($deep && "/") . "d" x 200;
    folder $deep;
}
file "$deep/bottom";
utime 1_000_000_000, 1_000_000_000, "private", "names";
