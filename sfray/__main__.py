from sfray.cli.app import main

main()
