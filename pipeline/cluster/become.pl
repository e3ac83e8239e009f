# Run on every machine of a cluster before it is frozen: leaves a process that waits on the machine's report channel, and
# prints its number.  A copy of the machine hears there what makes it a machine of its own:
#
#   time SECONDS            since the epoch
#   random HEX              bytes that no other copy gets
#   file MODE PATH HEX      what a file is from now on (path in hex, too); one that is there keeps its owner and mode
#   end                     that was all: it says READY, or FAIL and why, and is no more
#
# In Perl, which every system that OSCAR runs on has, and because it starts nothing that would have to be translated
# first where machines are emulated.
use strict;
use warnings;
use POSIX ();

my $RNDRESEEDCRNG = 0x5207;

# One that nobody has ended, because who froze the machine was killed, has the channel still.
my $note = '/run/oscar-become.pid';
if (open my $file, '<', $note) {
    my ($former) = <$file> =~ /^(\d+)$/;
    if ($former && (readlink("/proc/$former/exe") // '') =~ /perl/) {
        kill 'KILL', $former;
        select undef, undef, undef, 0.1 while -e "/proc/$former/exe";
    }
}

my $port;
for my $file (glob '/sys/class/virtio-ports/*/name') {
    open my $name, '<', $file or next;
    ($port) = $file =~ m{([^/]+)/name$} if <$name> =~ /^org\.xen-oscar\.report$/;
}
defined $port or die "there is no report channel\n";
open my $channel, '+<', "/dev/$port" or die "/dev/$port: $!\n";
defined(my $child = fork) or die "fork: $!\n";
if ($child) {
    open my $file, '>', $note or die "$note: $!\n";
    print $file "$child\n";
    print "$child\n";
    exit 0;
}
POSIX::setsid();
open STDIN, '<', '/dev/null';
open STDOUT, '>', '/dev/null';
open STDERR, '>', '/dev/null';
alarm 900;    # should nobody end it in the machine that was frozen

my (%owners, $rest, $has_new_keys);
$rest = '';
eval {
    while (sysread $channel, my $data, 65536) {
        $rest .= $data;
        while ($rest =~ s/^(.*)\n//) {
            my ($word, @given) = split / /, $1;
            if    ($word eq 'time')   { set_time(@given) }
            elsif ($word eq 'random') { reseed(pack 'H*', $given[0]) }
            elsif ($word eq 'file')   { write_file(oct $given[0], pack('H*', $given[1]), pack('H*', $given[2] // '')) }
            elsif ($word eq 'end')    { restart(); say_it('READY'); exit 0 }
        }
    }
};
say_it("FAIL it cannot become a machine of its own: $@");

sub say_it {
    my ($line) = @_;
    $line =~ s/\s+/ /g;
    syswrite $channel, "$line\n";
}

sub set_time {
    my ($time) = @_;
    my $seconds = int $time;
    my $done = (POSIX::uname())[4] eq 'x86_64'
        && syscall(227, 0, pack 'qq', $seconds, int(($time - $seconds) * 1e9)) == 0;    # clock_settime
    $done or system('date', '-u', '-s', "\@$time") == 0 or die "the clock cannot be set\n";
}

sub reseed {
    my ($bytes) = @_;
    open my $device, '+<', '/dev/urandom' or die "/dev/urandom: $!\n";
    syswrite $device, $bytes;
    ioctl $device, $RNDRESEEDCRNG, 0;    # before Linux 4.14 it does so by itself, within minutes
}

sub write_file {
    my ($mode, $path, $content) = @_;
    my (undef, undef, $old, undef, $user, $group) = stat $path;
    my $new = "$path.new";
    unlink $new;
    sysopen my $file, $new, POSIX::O_WRONLY() | POSIX::O_CREAT() | POSIX::O_EXCL(), 0600 or die "$new: $!\n";
    chown $user, $group, $new if defined $old;
    chmod defined $old ? $old & 07777 : $mode, $new;
    syswrite($file, $content) == length $content or die "$new: $!\n";
    close $file;
    rename $new, $path or die "$path: $!\n";
    $owners{$user} = 1 if $user;
    $has_new_keys = 1 if $path =~ m{^/etc/ssh/ssh_host_};
}

# sshd takes its new keys when it is told to, and what runs as somebody whose file has changed is started anew.
sub restart {
    my %units;
    for my $process (%owners ? glob '/proc/[0-9]*' : ()) {
        my $user = (stat $process)[4];
        next unless defined $user && $owners{$user};
        open my $groups, '<', "$process/cgroup" or next;
        while (<$groups>) { $units{$1} = 1 if m{/system\.slice/(?:[^/]+/)*([^/]+\.service)$} }
    }
    if ($has_new_keys && open my $file, '<', '/run/sshd.pid') {
        my ($process) = <$file> =~ /^(\d+)$/;
        kill 'HUP', $process if $process;
    }
    system('systemctl', 'restart', sort keys %units) == 0 or die "services cannot be started anew: @{[sort keys %units]}\n"
        if %units;
}
